package adminapi

import (
	"math"
	"time"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/fault"
)

// Limits bound speed.
type Limits struct {
	RequestsPerMinute int64 `json:"requests_per_minute,omitempty" minimum:"0" doc:"0 or missing: no limit, here and below."`
	RequestsPerHour   int64 `json:"requests_per_hour,omitempty" minimum:"0"`
	RequestsPerDay    int64 `json:"requests_per_day,omitempty" minimum:"0"`
	TokensPerMinute   int64 `json:"tokens_per_minute,omitempty" minimum:"0" doc:"Of prompt and answer together."`
	TokensPerHour     int64 `json:"tokens_per_hour,omitempty" minimum:"0"`
	TokensPerDay      int64 `json:"tokens_per_day,omitempty" minimum:"0"`
	Concurrency       int64 `json:"concurrency,omitempty" minimum:"0" doc:"Requests at the same time."`
}

// Budget bounds money over a period.
type Budget struct {
	Period   string     `json:"period" enum:"day,week,month,window" doc:"In UTC; a window is from start to end, once."`
	Start    *time.Time `json:"start,omitempty"`
	End      *time.Time `json:"end,omitempty"`
	USD      float64    `json:"usd" minimum:"0"`
	AlertAt  []float64  `json:"alert_at,omitempty" nullable:"false" doc:"Shares of the budget, 0 to 1."`
	OnExceed string     `json:"on_exceed,omitempty" enum:"reject,cheapest,alert" doc:"Missing: reject."`
}

// maxBudget is in dollars: what nano-dollars can count.
const maxBudget = 1_000_000_000

func viewBudgets(budgets []account.Budget) []Budget {
	views := make([]Budget, len(budgets))
	for i, b := range budgets {
		views[i] = Budget{
			Period: b.Period, Start: moment(b.Start), End: moment(b.End), USD: usd(b.NanoUSD), AlertAt: b.AlertAt, OnExceed: b.OnExceed,
		}
	}
	return views
}

// usd is nano-dollars in dollars. Up to nine million dollars it is exact to the nano-dollar.
func usd(nano int64) float64 { return float64(nano) / 1e9 }

func budgets(views []Budget) ([]account.Budget, error) {
	list := make([]account.Budget, len(views))
	for i, v := range views {
		if v.USD > maxBudget {
			return nil, invalid("budgets", "A budget is at most a billion dollars.")
		}
		b := account.Budget{Period: v.Period, NanoUSD: int64(math.Round(v.USD * 1e9)), AlertAt: v.AlertAt, OnExceed: v.OnExceed}
		if v.Start != nil {
			b.Start = v.Start.UTC()
		}
		if v.End != nil {
			b.End = v.End.UTC()
		}
		switch window := b.Period == account.Fixed; {
		case window && !b.Start.Before(b.End):
			return nil, invalid("budgets", "A budget for a window needs a start, and an end after it.")
		case !window && (v.Start != nil || v.End != nil):
			return nil, invalid("budgets", "Only a budget for a window has a start and an end.")
		}
		for _, share := range b.AlertAt {
			if share <= 0 || share > 1 {
				return nil, invalid("budgets", "alert_at are shares of the budget, above 0 and at most 1.")
			}
		}
		list[i] = b
	}
	return list, nil
}

// invalid refuses a value.
func invalid(field, why string) error {
	return fault.New(fault.Invalid, "invalid_value", why).About(field)
}

// money is nano-dollars as a decimal of dollars, exactly.
func money(nano int64) string { return catalog.FormatUSD(nano) }
