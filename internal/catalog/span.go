package catalog

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ParseSpan reads a span of time as people write it: Go's durations, and whole days and weeks (90m, 2d, 1w).
func ParseSpan(s string) (time.Duration, error) {
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
