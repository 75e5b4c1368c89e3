package smoke

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

var errNoCost = errors.New("the answer does not say what it cost (x-shareai-cost, in dollars)")

// parseUSD reads a decimal number of dollars, "0.0000015", as nano-dollars.
func parseUSD(text string) (int64, error) {
	whole, fraction, _ := strings.Cut(text, ".")
	const digits = 9
	if whole == "" || len(fraction) > digits {
		return 0, errNoCost
	}
	n, err := strconv.ParseUint(whole+fraction+strings.Repeat("0", digits-len(fraction)), 10, 63)
	if err != nil {
		return 0, errNoCost
	}
	return int64(n), nil
}

// formatUSD writes nano-dollars as a decimal number of dollars.
func formatUSD(nano int64) string {
	text := fmt.Sprintf("%d.%09d", nano/1_000_000_000, nano%1_000_000_000)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}
