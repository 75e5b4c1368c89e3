//go:build linux

package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   spread
		shown  string
	}{
		{nil, spread{}, "–"},
		{[]float64{2}, spread{2, 2, 2, 1}, "2.0"},
		{[]float64{3, 1, 2}, spread{2, 1, 3, 3}, "2.0 [1.0 … 3.0]"},
		{[]float64{4, 1, 2, 3}, spread{2.5, 1, 4, 4}, "2.5 [1.0 … 4.0]"},
	} {
		got := spreadOf(c.values)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%v: %s", c.values, diff)
		}
		if got.showAll(1) != c.shown {
			t.Errorf("%v is shown as %s", c.values, got.showAll(1))
		}
	}
}

func TestComparisonsPairTheRounds(t *testing.T) {
	r := result{scenario: scenario{Name: "A", Title: "x", Unit: perRequest, Columns: []column{added50}}, samples: []sample{
		{Target: "direct", Round: 1, Sent: 10, OK: 10, Wall: 1, Latency50: 1},
		{Target: "minimal", Round: 1, Sent: 10, OK: 10, Wall: 1, CPU: 1000, Latency50: 2},
		{Target: "shareai", Round: 1, Sent: 10, OK: 8, Wall: 1, CPU: 1200, Latency50: 3, Failed: map[string]uint64{"status 502": 2}},
		// The machine became four times slower for a while: the ratio must not.
		{Target: "direct", Round: 2, Sent: 10, OK: 10, Wall: 1, Latency50: 4},
		{Target: "minimal", Round: 2, Sent: 10, OK: 10, Wall: 1, CPU: 4000, Latency50: 6},
		{Target: "shareai", Round: 2, Sent: 10, OK: 9, Wall: 1, CPU: 4800, Latency50: 8, Failed: map[string]uint64{"status 502": 1}},
		{Target: "minimal", Round: 3, Sent: 10, OK: 10, Wall: 1, CPU: 9000},
	}}
	if diff := cmp.Diff(spread{1.2, 1.2, 1.2, 2}, r.ratio("shareai", "minimal")); diff != "" {
		t.Error(diff)
	}
	if got := r.ratio("direct", "minimal"); got.Rounds != 0 {
		t.Errorf("direct has a ratio: %+v", got)
	}
	if diff := cmp.Diff(spread{3, 2, 4, 2}, r.added("shareai", func(s sample) float64 { return s.Latency50 })); diff != "" {
		t.Error(diff)
	}
	table := r.table()
	for _, want := range []string{"| × minimal |", "| shareai | 300.0 [120.0 … 480.0] | 1.20 | 3.00 | 3 status 502 | 0 |\n", "| direct | – | – | – | 0 | 0 |\n"} {
		if !strings.Contains(table, want) {
			t.Errorf("%q is missing in\n%s", want, table)
		}
	}
	if strings.Contains(table, "nginx") {
		t.Errorf("a target that did not run is in\n%s", table)
	}
}

func TestBars(t *testing.T) {
	const kib = 1 << 10
	rep := &report{
		Results: []result{
			{scenario: scenario{Name: "A", Unit: perRequest}, samples: []sample{
				{Target: "minimal", Round: 1, Sent: 1, OK: 1, CPU: 10}, {Target: "shareai", Round: 1, Sent: 1, OK: 1, CPU: 15},
			}},
			{scenario: scenario{Name: "B", Unit: perRequest}, samples: []sample{
				{Target: "minimal", Round: 1, Sent: 1, OK: 1, CPU: 10}, {Target: "shareai", Round: 1, Sent: 1, OK: 1, CPU: 15.1},
			}},
			{scenario: scenario{Name: "D", Unit: perChunk}, samples: []sample{
				{Target: "shareai", Round: 1, Sent: 1, OK: 0, Chunks: 100, CPU: 10},
			}},
			{scenario: scenario{Name: "E", Unit: perChunk}, samples: []sample{
				{Target: "minimal", Round: 1, Sent: 2, OK: 2, Chunks: 10, CPU: 10}, {Target: "shareai", Round: 1, Sent: 2, OK: 2, Chunks: 10, CPU: 15, RSSBefore: 8 * kib, RSSPeak: 128 * kib},
			}},
		},
		Records: &records{Written: 9, Answered: 9, Sent: 10},
	}
	var got []judgement
	for _, v := range judge(rep) {
		got = append(got, v.Verdict)
	}
	want := []judgement{passed, failed, unjudged, passed, passed, failed, passed}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRecords(t *testing.T) {
	for _, c := range []struct {
		written uint64
		want    judgement
	}{{8, failed}, {9, passed}, {10, passed}, {11, failed}} {
		r := &records{Written: c.written, Answered: 9, Sent: 10}
		if got := r.judge().Verdict; got != c.want {
			t.Errorf("%d written for 9 answered of 10: %s", c.written, got)
		}
	}
	if n, err := totalRequests([]byte(`{"total":{"requests":12,"cost":"0.1"},"rows":[]}`)); n != 12 || err != nil {
		t.Errorf("%d %v", n, err)
	}
	for _, bad := range []string{"", "[]", `{"requests":1}`, `{"total":{}}`} {
		if _, err := totalRequests([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
