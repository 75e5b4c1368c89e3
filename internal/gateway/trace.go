package gateway

import (
	"strconv"
	"strings"
	"time"

	"shareai/internal/attempt"
	"shareai/internal/catalog"
	"shareai/internal/routing"
	"shareai/internal/upstream"
	"shareai/internal/usage"
)

// isPrimary is the reason of an answer that came from the first choice, at the first try.
const isPrimary = "primary"

// reason says in words why a candidate answers: what it is to the model that was asked for, and what failed
// or was kept out before it.
func reason(plan *routing.Plan, served *routing.Candidate, log *attempt.Log) string {
	if log.Len() == 1 && served == &plan.Candidates[0] {
		return isPrimary
	}
	var parts []string
	switch served.Origin {
	case routing.OfEquivalent:
		parts = append(parts, "equivalent "+strconv.FormatFloat(served.Grade, 'f', 2, 64))
	case routing.OfPolicy, routing.OfRequest:
		parts = append(parts, "fallback of the "+string(served.Origin))
	}
	for i := range plan.Candidates {
		c := &plan.Candidates[i]
		if c == served {
			break
		}
		if c.Excluded != routing.Kept && c.Excluded != routing.TooManyTries {
			parts = append(parts, c.ID+" "+string(c.Excluded))
		}
	}
	for _, a := range log.Attempts() {
		if a.Outcome != "" && a.Outcome != string(upstream.OK) && a.Outcome != string(upstream.Hedged) {
			parts = append(parts, a.Deployment+" "+a.Outcome)
		}
	}
	if len(parts) == 0 {
		return isPrimary
	}
	return strings.Join(parts, "; ")
}

// considered lists the candidates of a plan for the record.
func considered(plan *routing.Plan) []usage.Candidate {
	if plan == nil {
		return nil
	}
	list := make([]usage.Candidate, len(plan.Candidates))
	for i := range plan.Candidates {
		c := &plan.Candidates[i]
		list[i] = usage.Candidate{Deployment: c.ID, Model: c.Model.Name, Reason: string(c.Excluded), Origin: string(c.Origin), Grade: c.Grade}
	}
	return list
}

// running picks the drills that run at a moment.
func running(drills []*catalog.Drill, now time.Time) []*catalog.Drill {
	var active []*catalog.Drill
	for _, d := range drills {
		if d.ActiveAt(now) {
			active = append(active, d)
		}
	}
	return active
}

// drillOf is the id of the drill under which a plan was made; empty when none is about its candidates.
func drillOf(p *routing.Plan) string {
	for i := range p.Candidates {
		if d := p.Candidates[i].Drill; d != nil {
			return d.ID
		}
	}
	return ""
}
