package node

import (
	"testing"
	"time"
)

func TestWindows(t *testing.T) {
	at := func(text string) time.Time {
		when, err := time.ParseInLocation("2006-01-02 15:04", text, time.Local)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	// 2026-11-23 is a Monday.
	for _, c := range []struct {
		window string
		in     []string
		out    []string
		text   string
	}{
		{"20:00-08:00", []string{"2026-11-23 20:00", "2026-11-24 07:59", "2026-11-22 23:00"}, []string{"2026-11-23 19:59", "2026-11-23 08:00"}, "20:00-08:00"},
		{"mon-fri 20:00-08:00", []string{"2026-11-23 21:00", "2026-11-28 07:00"}, []string{"2026-11-23 07:00", "2026-11-28 21:00", "2026-11-23 12:00"}, "mon,tue,wed,thu,fri 20:00-08:00"},
		{"sat,sun", []string{"2026-11-28 00:00", "2026-11-29 23:59"}, []string{"2026-11-30 00:00", "2026-11-27 23:59"}, "sun,sat 00:00-24:00"},
		{"Fri-Mon 09:00-17:30", []string{"2026-11-23 09:00", "2026-11-27 17:29"}, []string{"2026-11-24 10:00", "2026-11-27 17:30"}, "sun,mon,fri,sat 09:00-17:30"},
		{"wednesday 22:00-24:00", []string{"2026-11-25 23:59"}, []string{"2026-11-26 00:00"}, "wed 22:00-24:00"},
	} {
		w, err := ParseWindow(c.window)
		if err != nil {
			t.Fatal(err)
		}
		for _, when := range c.in {
			if !(Hours{w}).Has(at(when)) {
				t.Errorf("%q has not %s", c.window, when)
			}
		}
		for _, when := range c.out {
			if (Hours{w}).Has(at(when)) {
				t.Errorf("%q has %s", c.window, when)
			}
		}
		if w.String() != c.text {
			t.Errorf("%q is %q in words", c.window, w)
		}
		if again, err := ParseWindow(w.String()); err != nil || again.String() != w.String() {
			t.Errorf("%q can not be read again: %v", w, err)
		}
	}
	if !Hours(nil).Has(monday) {
		t.Error("no hours are not all hours")
	}
}

func TestWindowsThatMakeNoSense(t *testing.T) {
	for _, text := range []string{"", "20:00", "20:00-20:00", "25:00-26:00", "xmas", "mon tue", "mon-fri 20-8", "24:00-08:00", "mon- 10:00-11:00", "monkey", "mon-fri 20:00-08:00 x"} {
		if w, err := ParseWindow(text); err == nil {
			t.Errorf("%q was read as %q", text, w)
		}
	}
}
