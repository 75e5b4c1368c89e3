package probe

import (
	"context"
	"errors"
	"net/http"
	"time"

	"shareai/internal/catalog"
	"shareai/internal/health"
	"shareai/internal/openai"
	"shareai/internal/snapshot"
	"shareai/internal/upstream"
)

// canaryBody asks for as little as every model can give. Package upstream renames the limit where a
// provider knows it by its older name.
const canaryBody = `{"model":"canary","messages":[{"role":"user","content":"Say ok."}],"max_completion_tokens":16}`

// dearest is what a canary should use at most: the prompt with whatever a provider puts around it.
var dearest = catalog.Tokens{Prompt: 64, Completion: 16, Estimated: true}

// canary is a paid request that may be sent: its cost is set aside, its permit taken.
type canary struct {
	job
	target *snapshot.Target
	permit health.Permit
	aside  int64 // nano-dollars
	day    int64 // of which they were set aside
}

// canary makes one ready, unless the provider is not to get any, the cap is reached, or there is no
// deployment to send it to.
func (r *Runner) canary(j job) (canary, bool) {
	if j.provider.Probe.Kind != catalog.ProbeCanary || j.provider.Probe.DailyCap <= 0 {
		return canary{}, false
	}
	target := r.candidate(j)
	if target == nil {
		return canary{}, false
	}
	c := canary{job: j, target: target, aside: target.Deployment.Price.Cost(dearest), day: utcDay(time.Now())}
	r.mu.Lock()
	defer r.mu.Unlock()
	j.watched.roll(c.day)
	if j.watched.stats.SpentToday+c.aside > j.provider.Probe.DailyCap {
		return canary{}, false
	}
	permit, ok := r.options.Board.Deployment(target.ID).Acquire()
	if !ok { // the place of a probe is taken
		return canary{}, false
	}
	c.permit = permit
	j.watched.stats.SpentToday += c.aside
	j.watched.stats.Canaries++
	return c, true
}

// candidate is the deployment that a canary tells most about: one whose circuit waits for a success, then
// the one that has just failed, then the one not heard of for the longest time, and an interval at least. Models
// that make embeddings do not chat.
func (r *Runner) candidate(j job) *snapshot.Target {
	var best *snapshot.Target
	var urgency int
	var heard time.Time
	for i := range j.targets {
		t := &j.targets[i]
		if t.Limits.Can.Has(catalog.SetOf(catalog.Embedding)) {
			continue
		}
		d := r.options.Board.Deployment(t.ID)
		at, urgent := d.Heard(), 1
		switch state := d.State(); {
		case state == health.Open:
			continue
		case state == health.HalfOpen:
			urgent = 3
		case j.watched.suspect == t.ID:
			urgent = 2
		case j.now.Before(at.Add(every(j.provider))):
			continue
		}
		if best == nil || urgent > urgency || urgent == urgency && at.Before(heard) {
			best, urgency, heard = t, urgent, at
		}
	}
	return best
}

// send sends a canary and settles it.
func (r *Runner) send(ctx context.Context, c canary) Standing {
	within, cancel := context.WithTimeout(ctx, canaryLimit)
	defer cancel()
	tokens, failure := r.chat(within, c)
	found := Reachable
	switch {
	case failure == nil:
		c.permit.Succeeded(health.WholeAnswer, 0) // 16 tokens do not tell how long a real answer takes
	case ctx.Err() != nil:
		c.permit.Dropped()
	default:
		found = r.failed(c, failure)
	}
	if failure != nil && unbilled(failure) {
		tokens = catalog.Tokens{}
	}
	cost := c.target.Deployment.Price.Cost(tokens)
	r.settle(c, cost, found)
	if tokens != (catalog.Tokens{}) {
		r.options.OnCanary(c.provider.Name, c.target.ID, tokens, cost)
	}
	return found
}

// chat sends the request. With an error the tokens are those that may have been used.
func (r *Runner) chat(ctx context.Context, c canary) (catalog.Tokens, *upstream.Error) {
	request, err := openai.ParseRequest([]byte(canaryBody))
	if err != nil {
		return catalog.Tokens{}, &upstream.Error{Outcome: upstream.ClientError, Status: http.StatusBadRequest, Cause: err}
	}
	answer, err := r.options.Client.Do(ctx, &upstream.Call{
		Target:   upstream.Target{Provider: c.provider, Deployment: c.target.Deployment, Key: r.key(c.provider)},
		Endpoint: catalog.Chat, Request: request,
	})
	if err != nil {
		return dearest, asFailure(err)
	}
	defer answer.Close()
	reply, err := openai.ParseReply(answer.Body)
	switch {
	case err != nil:
		return dearest, &upstream.Error{Outcome: upstream.BadAnswer, Message: "The answer is not well-formed.", Cause: err}
	case reply.Err != nil:
		return dearest, upstream.Classify(reply.Err)
	case len(reply.Choices) == 0:
		return dearest, &upstream.Error{Outcome: upstream.BadAnswer, Message: "The answer is empty."}
	case !reply.Usage.Reported:
		return dearest, nil
	}
	u := reply.Usage
	return catalog.Tokens{
		Prompt: u.Prompt, Cached: u.Cached, CacheWrite: u.CacheWrite, CacheWrite1h: u.CacheWrite1h,
		Completion: u.Completion, Reasoning: u.Reasoning,
	}, nil
}

func asFailure(err error) *upstream.Error {
	var f *upstream.Error
	if errors.As(err, &f) {
		return f
	}
	return &upstream.Error{Outcome: upstream.Broken, Cause: err}
}

// failed draws the consequences of a canary's failure. What the provider refuses (a key, a limit, the
// request itself) says nothing about the deployment.
func (r *Runner) failed(c canary, f *upstream.Error) Standing {
	if f.Status >= 400 && f.Status < 500 {
		c.permit.Dropped()
		return Unclear
	}
	c.permit.Failed()
	if !unsent(f) {
		return Failing
	}
	for i := range c.targets { // it is the whole provider that is away
		if t := &c.targets[i]; t.ID != c.target.ID {
			r.fail(t)
		}
	}
	return Unreachable
}

// unbilled says whether nobody bills a request that ended so: it never arrived, or got an error for an answer.
func unbilled(f *upstream.Error) bool { return f.Status >= 400 || unsent(f) }

func unsent(f *upstream.Error) bool {
	switch f.Outcome {
	case upstream.ConnectFailed, upstream.ConnectTimeout, upstream.DNSFailed, upstream.TLSFailed, upstream.RefusedAddress:
		return true
	default:
		return false
	}
}

// settle notes what became of a canary, and replaces what was set aside by what it cost. A canary that began before midnight is paid by the
// day in which it ends.
func (r *Runner) settle(c canary, cost int64, found Standing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.watched.suspect = ""
	if found == Failing || found == Unreachable {
		c.watched.suspect = c.target.ID
	}
	today := utcDay(time.Now())
	c.watched.roll(today)
	if c.day == today {
		cost -= c.aside
	}
	c.watched.stats.SpentToday += cost
}

// roll begins a new day of spending.
func (w *watched) roll(today int64) {
	if today != w.day {
		w.day, w.stats.SpentToday = today, 0
	}
}

func utcDay(t time.Time) int64 { return t.Unix() / (24 * 60 * 60) }
