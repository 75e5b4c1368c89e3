package usage

import (
	"time"

	"shareai/internal/catalog"
)

// What the words of attempts and candidates mean here. Their owners, upstream and routing, are not
// below this package; a test above all of them compares.
const (
	outcomeOK     = "ok"
	outcomeHedged = "hedged"
	byPrefill     = "prefill"
	byCircuit     = "circuit"
	byDrain       = "drained"
	byKeys        = "provider_keys"
)

// Primary is the place of the candidate that a request was meant for: the first that was kept, or that
// only its condition (circuit, drain, no usable key) kept away. Where rules left out all of them it is the first; where
// there are none, -1.
func Primary(candidates []Candidate) int {
	for i := range candidates {
		switch candidates[i].Reason {
		case "", byCircuit, byDrain, byKeys:
			return i
		}
	}
	return min(len(candidates), 1) - 1
}

// Against notes the primary that the request is compared with: its deployment, its price, and its usual
// latency (0: unknown; streams: to the first token, else to the whole answer). It is called once the
// attempts are complete and the deployment that answered is named.
func (r *Record) Against(deployment string, price catalog.Price, usual time.Duration) {
	r.Primary, r.PrimaryLatency = deployment, usual.Microseconds()
	if serving := r.Serving(); serving >= 0 {
		r.PrimaryCost = price.Cost(r.answerTokens(serving))
	}
}

// FailedOver says whether another than the primary answered.
func (r *Record) FailedOver() bool {
	return r.Primary != "" && r.Deployment != "" && r.Deployment != r.Primary
}

// Cause is why the primary did not answer where another did: the outcome of its last attempt, or the
// reason for which it was left out. It is a word of theirs, never a text. Empty: it answered, or nobody
// did.
func (r *Record) Cause() string {
	if !r.FailedOver() {
		return ""
	}
	for i := len(r.Attempts) - 1; i >= 0; i-- {
		if r.Attempts[i].Deployment == r.Primary {
			return r.Attempts[i].Outcome
		}
	}
	for i := range r.Candidates {
		if r.Candidates[i].Deployment == r.Primary {
			return r.Candidates[i].Reason
		}
	}
	return ""
}

// Serving is the place of the attempt that answered, or ended the answer; -1 when none did.
func (r *Record) Serving() int {
	ended := -1
	for i := len(r.Attempts) - 1; i >= 0; i-- {
		switch a := &r.Attempts[i]; {
		case a.Outcome == outcomeOK:
			return i
		case ended < 0 && a.Deployment == r.Deployment && r.Deployment != "":
			ended = i
		}
	}
	return ended
}

// Difference is what became of cost and time because a request was not simply answered by its primary.
type Difference struct {
	// Cost, in nano-dollars, is that of all attempts less what the primary would have charged for the
	// same answer. Below zero it was cheaper.
	Cost int64
	// Lost, in microseconds, passed between the first attempt's beginning and that of the attempt that
	// answered, and in the gaps of a stream that was resumed.
	Lost int64
	// Usual is how much longer than usual at the primary the client waited, in microseconds; below zero it
	// was faster. It says nothing where PrimaryLatency is 0.
	Usual int64
}

// Difference compares an answered request with its primary. It is false where there is nothing to
// compare: nothing was planned, or nobody answered.
func (r *Record) Difference() (Difference, bool) {
	serving := r.Serving()
	if r.Primary == "" || serving < 0 {
		return Difference{}, false
	}
	d := Difference{Cost: r.Cost - r.PrimaryCost, Lost: r.lost(serving)}
	if waited := r.waited(); r.PrimaryLatency > 0 && waited > 0 {
		d.Usual = waited - r.PrimaryLatency
	}
	return d, true
}

// waited is the time that a latency of the board measures.
func (r *Record) waited() int64 {
	if r.Stream {
		return r.FirstToken
	}
	return r.Duration
}

// answerTokens are the tokens of the answer as a single attempt would have used them. An attempt that
// continued a broken stream from its prefix read that prefix as a part of its prompt.
func (r *Record) answerTokens(serving int) catalog.Tokens {
	tokens := r.Attempts[serving].Tokens
	for i := serving; r.Attempts[i].Resumes == byPrefill; {
		if i = r.continued(i); i < 0 {
			break
		}
		before := &r.Attempts[i].Tokens
		tokens.Prompt, tokens.Cached, tokens.AudioInput = before.Prompt, before.Cached, before.AudioInput
		tokens.CacheWrite, tokens.CacheWrite1h = before.CacheWrite, before.CacheWrite1h
		tokens.Completion += before.Completion
		tokens.Reasoning += before.Reasoning
		tokens.AudioOutput += before.AudioOutput
		tokens.Estimated = tokens.Estimated || before.Estimated
	}
	return tokens
}

func (r *Record) lost(serving int) (lost int64) {
	first := serving
	for before := r.continued(first); before >= 0; before = r.continued(first) {
		broken, next := &r.Attempts[before], &r.Attempts[first]
		lost += next.Offset + next.FirstToken - broken.Offset - broken.Duration
		first = before
	}
	return lost + r.Attempts[first].Offset - r.Attempts[0].Offset
}

// continued is the place of the attempt whose broken stream another one continued, or -1.
func (r *Record) continued(by int) int {
	if r.Attempts[by].Resumes == "" {
		return -1
	}
	for i := by - 1; i >= 0; i-- {
		if a := &r.Attempts[i]; a.FirstToken > 0 && a.Outcome != outcomeHedged {
			return i
		}
	}
	return -1
}
