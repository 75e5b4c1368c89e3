package attempt

import (
	"strings"
	"time"

	"shareai/internal/catalog"
	"shareai/internal/health"
	"shareai/internal/routing"
	"shareai/internal/upstream"
)

// A provider key is rejected by the whole provider, and limited for one deployment: limits are counted for
// each model. Of a provider with a single key neither is remembered here, there is nothing to choose; its
// deployment's circuit takes note.

// keyHealth is where the rejections of a key are kept, in the candidate's own scope.
func (e *Engine) keyHealth(c *routing.Candidate, key *catalog.ProviderKey) *health.Key {
	return e.board.Key(strings.TrimSuffix(c.HealthID, c.ID) + c.Provider.Name + "#" + key.Name)
}

// limitHealth is where the limits of a key at a deployment are kept.
func (e *Engine) limitHealth(c *routing.Candidate, key *catalog.ProviderKey) *health.Key {
	return e.board.Key(c.HealthID + "#" + key.Name)
}

func (e *Engine) usable(c *routing.Candidate, key *catalog.ProviderKey) bool {
	return e.keyHealth(c, key).Usable() && e.limitHealth(c, key).Usable()
}

// hasKey says whether one of a candidate's keys is usable.
func (e *Engine) hasKey(c *routing.Candidate) bool {
	for i := range c.Provider.Keys {
		if e.usable(c, &c.Provider.Keys[i]) {
			return true
		}
	}
	return false
}

// noKey is sent where a provider has none.
var noKey catalog.ProviderKey

// pick draws one of a candidate's usable keys by weight. When none is usable, it is the one that rests
// for the shortest time. A provider without keys needs none, and of a single one nothing is known here.
func (e *Engine) pick(c *routing.Candidate) (key *catalog.ProviderKey, usable bool) {
	keys := c.Provider.Keys
	if len(keys) == 0 {
		return &noKey, true
	}
	if len(keys) == 1 {
		return &keys[0], true
	}
	total, good := 0, make([]*catalog.ProviderKey, 0, len(keys))
	for i := range keys {
		if e.usable(c, &keys[i]) {
			total, good = total+max(keys[i].Weight, 1), append(good, &keys[i])
		}
	}
	if len(good) == 0 {
		return e.soonest(c), false
	}
	drawn := e.draw() * float64(total)
	for _, k := range good {
		if drawn -= float64(max(k.Weight, 1)); drawn < 0 {
			return k, true
		}
	}
	return good[len(good)-1], true
}

func (e *Engine) soonest(c *routing.Candidate) *catalog.ProviderKey {
	keys := c.Provider.Keys
	best, at := &keys[0], time.Time{}
	for i := range keys {
		until := e.keyHealth(c, &keys[i]).Until()
		if limited := e.limitHealth(c, &keys[i]).Until(); limited.After(until) {
			until = limited
		}
		if i == 0 || until.Before(at) {
			best, at = &keys[i], until
		}
	}
	return best
}

// rest takes a key out of use after a failure that concerns it.
func (e *Engine) rest(c *routing.Candidate, key *catalog.ProviderKey, f *upstream.Error) {
	if f.Outcome == upstream.RateLimited {
		e.limitHealth(c, key).Limit(f.RetryAfter)
		return
	}
	e.keyHealth(c, key).Reject()
}

// accepted notes that a key was good.
func (e *Engine) accepted(c *routing.Candidate, key *catalog.ProviderKey) {
	if len(c.Provider.Keys) > 1 {
		e.keyHealth(c, key).Accept()
	}
}
