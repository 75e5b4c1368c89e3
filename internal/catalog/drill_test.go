package catalog

import (
	"math"
	"strings"
	"testing"
	"time"
)

var drillStart = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func soundDrill() Drill {
	return Drill{Provider: "alpha", Fault: DrillServer, Share: 1, Starts: drillStart, Ends: drillStart.Add(time.Hour)}
}

func TestDrillCheck(t *testing.T) {
	for _, fault := range DrillFaults {
		d := soundDrill()
		if d.Fault = fault; d.Check() != nil {
			t.Errorf("%s: %v", fault, d.Check())
		}
	}
	for name, c := range map[string]struct {
		spoil func(*Drill)
		says  string
	}{
		"no target":       {func(d *Drill) { d.Provider = "" }, "one thing"},
		"two targets":     {func(d *Drill) { d.Region = "eu" }, "one thing"},
		"no fault":        {func(d *Drill) { d.Fault = "" }, "blackhole, 5xx"},
		"unknown fault":   {func(d *Drill) { d.Fault = "500" }, "blackhole, 5xx"},
		"no share":        {func(d *Drill) { d.Share = 0 }, "share"},
		"negative share":  {func(d *Drill) { d.Share = -0.1 }, "share"},
		"too big a share": {func(d *Drill) { d.Share = 1.01 }, "share"},
		"not a number":    {func(d *Drill) { d.Share = math.NaN() }, "share"},
		"ends at once":    {func(d *Drill) { d.Ends = d.Starts }, "ends after"},
		"too long":        {func(d *Drill) { d.Ends = d.Starts.Add(MaxDrill + 1) }, "24 hours"},
	} {
		d := soundDrill()
		c.spoil(&d)
		if err := d.Check(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDrillTime(t *testing.T) {
	d := soundDrill()
	for _, c := range []struct {
		after        time.Duration
		active, over bool
	}{{-1, false, false}, {0, true, false}, {time.Hour - 1, true, false}, {time.Hour, false, true}} {
		at := drillStart.Add(c.after)
		if d.ActiveAt(at) != c.active || d.OverAt(at) != c.over {
			t.Errorf("after %s: active %t, over %t", c.after, d.ActiveAt(at), d.OverAt(at))
		}
	}
	d.Stopped = drillStart.Add(time.Minute)
	if d.ActiveAt(drillStart.Add(2*time.Minute)) || !d.OverAt(drillStart.Add(2*time.Minute)) {
		t.Error("a stopped drill runs on")
	}
}

func TestDrillHits(t *testing.T) {
	p := &Provider{Name: "alpha", Region: "eu"}
	for _, c := range []struct {
		drill  Drill
		target string
		hits   bool
	}{
		{Drill{Provider: "alpha"}, "provider alpha", true},
		{Drill{Provider: "beta"}, "provider beta", false},
		{Drill{Deployment: "alpha/large"}, "deployment alpha/large", true},
		{Drill{Deployment: "alpha/small"}, "deployment alpha/small", false},
		{Drill{Region: "eu"}, "region eu", true},
		{Drill{Region: "us"}, "region us", false},
		{Drill{}, "region ", false},
	} {
		if got := c.drill.Hits(p, "alpha/large"); got != c.hits || c.drill.Target() != c.target {
			t.Errorf("%s hits: %t", c.drill.Target(), got)
		}
	}
	nowhere := Drill{}
	if nowhere.Hits(&Provider{Name: "alpha"}, "alpha/large") {
		t.Error("a drill about nothing hits a provider without a region")
	}
}
