package alert

import (
	"time"

	"shareai/internal/account"
)

// Rule is a kind of thing to be told of.
type Rule string

// The rules.
const (
	Budget       Rule = "budget"        // a threshold of a budget was reached, or all of it is used up
	Fallbacks    Rule = "fallbacks"     // far more requests than usual are answered by another than their primary
	FallbackCost Rule = "fallback_cost" // and that costs far more than usual
	ProviderDown Rule = "provider_down" // the circuits of a provider are open
	ModelDown    Rule = "model_down"    // a model has no deployment left that takes requests
	NodeGone     Rule = "node_gone"     // a node that was linked is not
	ErrorRate    Rule = "error_rate"    // too many requests fail
)

// RuleNames lists every rule.
var RuleNames = []Rule{Budget, Fallbacks, FallbackCost, ProviderDown, ModelDown, NodeGone, ErrorRate}

// Level is how bad something is.
type Level int

// The levels that have a name. Above Well, more is worse.
const (
	Unknown Level = -1
	Well    Level = 0
	Bad     Level = 1
)

// Observation is what was seen of one subject at one moment.
type Observation struct {
	Rule    Rule
	Subject string // identifies it among all of its rule
	Level   Level
	// Bar is the value above which it is bad, where that was found by comparing with the past. It is kept while an episode
	// is open, so that a trouble that lasts does not become what is usual.
	Bar float64
	Report
}

// Report is an observation for people and programs.
type Report struct {
	Title   string         `json:"title"` // a sentence without its full stop
	Text    string         `json:"text"`  // one or two more
	Details map[string]any `json:"details,omitempty"`
	// Organization is whose it is; empty: it concerns the whole installation.
	Organization string `json:"organization,omitempty"`
}

// State is where an episode stands.
type State string

// The states of an episode.
const (
	Pending State = "pending"
	Open    State = "open"
	Ended   State = "ended"
)

// Episode is one time that a subject was not well.
type Episode struct {
	ID        string
	Rule      Rule
	Subject   string
	State     State
	Level     Level     // the worst that was told
	Bar       float64   // see Observation
	Since     time.Time // when it was first seen to be bad
	OpenedAt  time.Time // zero while it is pending
	CalmSince time.Time // when it was seen to be well again; zero: it is not
	EndedAt   time.Time // zero before
	Returns   int       // how many episodes before it had ended shortly before the next began
	Report    Report    // of the last observation that was bad
	Version   int64     // raised by every change that is stored
}

// Live says whether the episode can still change.
func (e *Episode) Live() bool { return e.State == Pending || e.State == Open }

// Lasted is how long an episode was bad that has ended.
func (e *Episode) Lasted() time.Duration { return e.CalmSince.Sub(e.Since) }

// Pace is how soon a rule speaks.
type Pace struct {
	After time.Duration // it has to be bad for so long
	Calm  time.Duration // and well for so long
}

// Memory is how long after its end an episode counts as the one before, and longestCalm the longest calm that is asked for.
const (
	Memory      = 2 * time.Hour
	longestCalm = time.Hour
)

func (p Pace) calm(returns int) time.Duration {
	calm := p.Calm
	for range returns {
		if calm >= longestCalm {
			break
		}
		calm = min(2*calm, longestCalm)
	}
	return calm
}

// Edge is what people are told.
type Edge string

// The edges of an episode; None is no news.
const (
	None   Edge = ""
	Opened Edge = "opened"
	Raised Edge = "raised"
	Ends   Edge = "ended"
)

// Step returns what an observation makes of the last episode of its subject; nil is none, before as after. A pending
// episode that comes to nothing is gone. What is returned is never before itself.
func Step(before *Episode, seen Observation, pace Pace, now time.Time) (*Episode, Edge) {
	if before == nil || !before.Live() {
		return begin(before, seen, pace, now)
	}
	after := *before
	switch {
	case seen.Level == Unknown:
		return &after, None
	case before.State == Pending && seen.Level == Well:
		return nil, None
	case before.State == Pending:
		after.Level, after.Report = seen.Level, seen.Report
		return ripen(&after, pace, now)
	case seen.Level == Well:
		return soothe(&after, pace, now)
	}
	after.CalmSince, after.Report = time.Time{}, seen.Report
	if seen.Level > before.Level {
		after.Level = seen.Level
		return &after, Raised
	}
	return &after, None
}

func begin(before *Episode, seen Observation, pace Pace, now time.Time) (*Episode, Edge) {
	if seen.Level <= Well {
		return nil, None
	}
	e := &Episode{
		ID: account.GenerateID("al_"), Rule: seen.Rule, Subject: seen.Subject, State: Pending,
		Level: seen.Level, Bar: seen.Bar, Since: now, Report: seen.Report,
	}
	if before != nil && now.Sub(before.EndedAt) < Memory {
		e.Returns = before.Returns + 1
	}
	return ripen(e, pace, now)
}

// ripen opens a pending episode that was bad for long enough.
func ripen(e *Episode, pace Pace, now time.Time) (*Episode, Edge) {
	if now.Sub(e.Since) < pace.After {
		return e, None
	}
	e.State, e.OpenedAt = Open, now
	return e, Opened
}

// soothe ends an open episode that was well for long enough.
func soothe(e *Episode, pace Pace, now time.Time) (*Episode, Edge) {
	if e.CalmSince.IsZero() {
		e.CalmSince = now
	}
	if now.Sub(e.CalmSince) < pace.calm(e.Returns) {
		return e, None
	}
	e.State, e.EndedAt = Ended, now
	return e, Ends
}

// Abandon ends an episode whose subject is not watched any more: the period of its budget is over, or nobody declares
// it. A pending one is gone.
func Abandon(before *Episode, now time.Time) (*Episode, Edge) {
	if before.State != Open {
		return nil, None
	}
	after := *before
	if after.CalmSince.IsZero() {
		after.CalmSince = now
	}
	after.State, after.EndedAt = Ended, now
	return &after, Ends
}
