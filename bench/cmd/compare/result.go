//go:build linux

package main

import (
	"fmt"
	"slices"
)

// result is everything measured in one scenario.
type result struct {
	scenario
	samples []sample
}

// figure is one number of a sample.
type figure func(sample) float64

// spread is a figure over the rounds.
type spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
	Rounds int     `json:"rounds"` // 0: it was not measured
}

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	v := slices.Sorted(slices.Values(values))
	mid := len(v) / 2
	median := v[mid]
	if len(v)%2 == 0 {
		median = (v[mid-1] + v[mid]) / 2
	}
	return spread{Median: median, Low: v[0], High: v[len(v)-1], Rounds: len(v)}
}

// show prints the median with this many decimals, "–" where nothing was measured.
func (s spread) show(decimals int) string {
	if s.Rounds == 0 {
		return "–"
	}
	return fmt.Sprintf("%.*f", decimals, s.Median)
}

// showAll prints lowest and highest as well.
func (s spread) showAll(decimals int) string {
	if s.Rounds < 2 {
		return s.show(decimals)
	}
	return fmt.Sprintf("%s [%.*f … %.*f]", s.show(decimals), decimals, s.Low, decimals, s.High)
}

// of is a figure of one target over the rounds.
func (r result) of(name string, f figure) spread {
	var values []float64
	for _, s := range r.samples {
		if s.Target == name {
			values = append(values, f(s))
		}
	}
	return spreadOf(values)
}

// against joins a figure of two targets round by round, so that what changes on the
// machine in the course of the run strikes both.
func (r result) against(name, base string, f figure, join func(a, b float64) float64) spread {
	bases := map[int]float64{}
	for _, s := range r.samples {
		if s.Target == base {
			bases[s.Round] = f(s)
		}
	}
	var values []float64
	for _, s := range r.samples {
		if b, found := bases[s.Round]; found && s.Target == name {
			values = append(values, join(f(s), b))
		}
	}
	return spreadOf(values)
}

// ratio is what a target costs relative to another; not measured where one of
// them has no cost, which is so for direct.
func (r result) ratio(name, base string) spread {
	if name == "direct" || base == "direct" {
		return spread{}
	}
	return r.against(name, base, r.cost, func(a, b float64) float64 { return a / b })
}

// added is by how much a figure exceeds that of no gateway at all.
func (r result) added(name string, f figure) spread {
	return r.against(name, "direct", f, func(a, b float64) float64 { return a - b })
}

func (r result) cost(s sample) float64 { return s.cost(r.Unit) }

// targets are the names of those measured, in their order.
func (r result) targets() []string {
	var names []string
	for _, s := range r.samples {
		if !slices.Contains(names, s.Target) {
			names = append(names, s.Target)
		}
	}
	return names
}

// streamMemory is the memory of one stream in KiB. The peak is read against what the
// target took before the streams began, so it has to be started anew for them.
func streamMemory(s sample) float64 {
	return float64(s.RSSPeak-s.RSSBefore) / 1024 / float64(max(s.Sent, 1))
}
