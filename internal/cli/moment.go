package cli

import (
	"fmt"
	"time"

	"shareai/internal/catalog"
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
	span, err := catalog.ParseSpan(s)
	if err != nil || span <= 0 {
		return fmt.Errorf("%q is neither a date (2026-11-01), a time (2026-11-01T15:04:05Z) nor a span (90m, 24h, 7d)", s)
	}
	m.span = span
	return nil
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
