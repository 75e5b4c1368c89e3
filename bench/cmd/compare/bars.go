//go:build linux

package main

import "fmt"

// judgement is how a bar came out.
type judgement string

const (
	passed   judgement = "PASS"
	failed   judgement = "FAIL"
	unjudged judgement = "not measured"
)

// verdict is one bar with what was measured for it.
type verdict struct {
	Bar     string    `json:"bar"`
	Found   string    `json:"found"`
	Verdict judgement `json:"verdict"`
}

func (v verdict) String() string {
	if v.Verdict == unjudged {
		return fmt.Sprintf("%s: %s", v.Verdict, v.Bar)
	}
	return fmt.Sprintf("%s: %s: %s", v.Verdict, v.Bar, v.Found)
}

// atMost judges the median of a figure.
func atMost(bar string, s spread, limit float64) verdict {
	v := verdict{Bar: bar, Found: s.showAll(2), Verdict: passed}
	switch {
	case s.Rounds == 0:
		v.Verdict = unjudged
	case s.Median > limit:
		v.Verdict = failed
	}
	return v
}

// judge holds ShareAI against the bars.
func judge(rep *report) []verdict {
	const us = "shareai"
	results := map[string]result{}
	var wrong uint64
	for _, r := range rep.Results {
		results[r.Name] = r
		for _, s := range r.samples {
			if s.Target == us {
				wrong += s.Sent - s.OK
			}
		}
	}
	var verdicts []verdict
	for _, bar := range []struct {
		scenario string
		unit     unit
		limit    float64
	}{
		{"A", perRequest, 1.5}, {"B", perRequest, 1.5}, {"D", perChunk, 1.5}, {"E", perChunk, 1.5},
	} {
		text := fmt.Sprintf("%s, CPU per %s at most %.1f × minimal", bar.scenario, bar.unit, bar.limit)
		verdicts = append(verdicts, atMost(text, results[bar.scenario].ratio(us, "minimal"), bar.limit))
	}
	verdicts = append(verdicts, atMost("E, memory per stream at most 60 KiB", results["E"].of(us, streamMemory), 60))

	requests := verdict{Bar: "every request answered in full", Found: fmt.Sprintf("%d failed", wrong), Verdict: passed}
	if wrong > 0 {
		requests.Verdict = failed
	}
	return append(verdicts, requests, rep.Records.judge())
}
