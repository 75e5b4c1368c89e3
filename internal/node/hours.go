package node

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Hours are the times of the week at which the machine may serve, in its local time. The zero value is all of them.
type Hours []Window

// Window is a span of time on some days of the week. One that ends before it begins goes on into the next day.
type Window struct {
	Days     []time.Weekday // on which it begins; none: every day
	From, To int            // minutes since midnight; To may be 24*60
}

const dayMinutes = 24 * 60

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

var errHours = errors.New(`is no span of time such as "20:00-08:00", "mon-fri 20:00-08:00" or "sat,sun"`)

// ParseWindow reads "mon-fri 20:00-08:00", "20:00-08:00" or "sat,sun".
func ParseWindow(text string) (Window, error) {
	wrong := fmt.Errorf("%q %w", text, errHours)
	fields := strings.Fields(strings.ToLower(text))
	if len(fields) == 0 || len(fields) > 2 {
		return Window{}, wrong
	}
	w := Window{To: dayMinutes}
	if last := fields[len(fields)-1]; strings.Contains(last, ":") {
		from, to, ok := strings.Cut(last, "-")
		var okFrom, okTo bool
		w.From, okFrom = parseClock(from)
		w.To, okTo = parseClock(to)
		if !ok || !okFrom || !okTo || w.From == dayMinutes || w.From == w.To {
			return Window{}, wrong
		}
		fields = fields[:len(fields)-1]
	}
	for _, days := range fields {
		for part := range strings.SplitSeq(days, ",") {
			first, last, isRange := strings.Cut(part, "-")
			if !isRange {
				last = first
			}
			a, b := parseDay(first), parseDay(last)
			if a < 0 || b < 0 {
				return Window{}, wrong
			}
			for d := a; ; d = (d + 1) % 7 {
				w.Days = append(w.Days, time.Weekday(d))
				if d == b {
					break
				}
			}
		}
	}
	if len(fields) > 1 {
		return Window{}, wrong
	}
	slices.Sort(w.Days)
	w.Days = slices.Compact(w.Days)
	return w, nil
}

// parseDay reads a day of the week, by its first three letters at least; -1: it is none.
func parseDay(text string) int {
	if len(text) < 3 {
		return -1
	}
	at := slices.Index(weekdays, text[:3])
	if at >= 0 && !strings.HasPrefix(strings.ToLower(time.Weekday(at).String()), text) {
		return -1
	}
	return at
}

func parseClock(text string) (minutes int, ok bool) {
	if text == "24:00" {
		return dayMinutes, true
	}
	t, err := time.Parse("15:04", text)
	return t.Hour()*60 + t.Minute(), err == nil
}

// String is the window as ParseWindow reads it.
func (w Window) String() string {
	var days []string
	for _, d := range w.Days {
		days = append(days, weekdays[d])
	}
	clock := fmt.Sprintf("%02d:%02d-%02d:%02d", w.From/60, w.From%60, w.To/60, w.To%60)
	return strings.TrimSpace(strings.Join(days, ",") + " " + clock)
}

func (w Window) onDay(d time.Weekday) bool { return len(w.Days) == 0 || slices.Contains(w.Days, d) }

// has says whether a local time is inside. The clock on the wall decides, also on days that are an hour longer.
func (w Window) has(t time.Time) bool {
	at := t.Hour()*60 + t.Minute()
	if w.From < w.To {
		return w.onDay(t.Weekday()) && at >= w.From && at < w.To
	}
	yesterday := (t.Weekday() + 6) % 7
	return w.onDay(t.Weekday()) && at >= w.From || w.onDay(yesterday) && at < w.To
}

// Has says whether the machine may serve at a local time.
func (h Hours) Has(t time.Time) bool {
	return len(h) == 0 || slices.ContainsFunc(h, func(w Window) bool { return w.has(t) })
}
