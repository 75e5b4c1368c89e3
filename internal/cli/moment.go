package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// moment is a point in time as people give it: a date, a date with a time, or a span from now.
type moment struct {
	at   time.Time
	span time.Duration
}

// UnmarshalText reads a flag: 2026-11-01 (midnight UTC), 2026-11-01T15:04:05Z, 24h, 7d, 2w.
func (m *moment) UnmarshalText(text []byte) error {
	s := string(text)
	*m = moment{}
	if s == "" {
		return nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			m.at = t
			return nil
		}
	}
	span, err := parseSpan(s)
	if err != nil || span <= 0 {
		return fmt.Errorf("%q is neither a date (2026-11-01), a time (2026-11-01T15:04:05Z) nor a span (90m, 24h, 7d)", s)
	}
	m.span = span
	return nil
}

// parseSpan reads Go's durations, and whole days and weeks.
func parseSpan(s string) (time.Duration, error) {
	const day = 24 * time.Hour
	for suffix, unit := range map[string]time.Duration{"d": day, "w": 7 * day} {
		number, found := strings.CutSuffix(s, suffix)
		if !found {
			continue
		}
		n, err := strconv.Atoi(number)
		if err != nil || n > 36500 {
			return 0, fmt.Errorf("%q is not a number of days or weeks", s)
		}
		return time.Duration(n) * unit, nil
	}
	return time.ParseDuration(s)
}

func (m moment) set() bool { return m != moment{} }

// before is the moment when a span counts back from now; the zero time when none was given.
func (m moment) before(now time.Time) time.Time { return m.from(now, -m.span) }

// after is the moment when a span counts forward from now; the zero time when none was given.
func (m moment) after(now time.Time) time.Time { return m.from(now, m.span) }

func (m moment) from(now time.Time, span time.Duration) time.Time {
	if m.span == 0 {
		return m.at
	}
	return now.Add(span)
}
