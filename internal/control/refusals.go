package control

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"shareai/internal/audit"
)

// NodeRefusal is a machine that was not let in as the node which it said to be.
type NodeRefusal struct {
	Node   string // id, as it was said: it may be anything
	Key    string // id, as it was said: it may be anything
	Reason string // one of few words: revoked, signature, replayed, superseded (by another machine with the same key)
	From   string // its address
}

// LogNodeRefusal puts a refusal into the audit log, unless the log has many of its kind.
func (c *Control) LogNodeRefusal(ctx context.Context, r NodeRefusal) {
	node := plainText(r.Node, maxWord)
	c.logRefusal(ctx, audit.Actor{Kind: audit.Node, ID: node, From: r.From}, &refusal{
		act: "node.link.refuse", reason: r.Reason, subject: node, key: plainText(r.Key, maxWord),
	})
}

// refusal is what the audit log says of a machine that was refused.
type refusal struct {
	act, reason, subject, key, hostname string
}

// refusalView is the document of a refusal.
type refusalView struct {
	Reason   string `json:"reason"`
	Key      string `json:"key,omitempty"`
	Hostname string `json:"hostname,omitempty"`
	// NotLogged is how many refusals for this reason were left out since the last that was logged.
	NotLogged int `json:"not_logged,omitempty"`
}

func (c *Control) logRefusal(ctx context.Context, who audit.Actor, r *refusal) {
	now := c.now()
	missed, ok := c.refusals.admit(r, now)
	if !ok {
		return
	}
	after, err := json.Marshal(refusalView{Reason: r.reason, Key: r.key, Hostname: r.hostname, NotLogged: missed})
	if err == nil {
		err = c.o.Log.Audit(context.WithoutCancel(ctx), audit.Act{At: now, Who: who, Name: r.act, Subject: r.subject, After: after})
	}
	if err != nil {
		c.o.Logger.ErrorContext(ctx, "the audit log lacks a refusal", "act", r.act, "reason", r.reason, "subject", r.subject, "from", who.From, "error", err)
	}
}

// The bounds of refusals in the audit log, which anybody can cause.
const (
	sameRefusal    = 10 * time.Minute // for the same reason, about the same token or node, there is one in this time
	refusalWindow  = time.Hour
	mostOfAnHour   = 20 // for one reason
	mostOfRefusals = 64 // reasons and subjects that are remembered
)

// refusals says which refusals are logged. Its zero value is ready.
type refusals struct {
	mu      sync.Mutex
	told    map[[2]string]time.Time // by reason and subject
	reasons map[string]*reason
}

// reason counts the refusals for one reason.
type reason struct {
	since  time.Time // when the hour began
	logged int       // in that hour
	missed int       // since the last that was logged
}

// admit says whether a refusal is logged, and how many were not since the last.
func (r *refusals) admit(what *refusal, now time.Time) (missed int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.told == nil {
		r.told, r.reasons = map[[2]string]time.Time{}, map[string]*reason{}
	}
	why := r.reasons[what.act+what.reason]
	if why == nil {
		why = &reason{since: now}
		r.reasons[what.act+what.reason] = why
	}
	if now.Sub(why.since) >= refusalWindow {
		why.since, why.logged = now, 0
	}
	same := [2]string{what.act + what.reason, what.subject}
	at, told := r.told[same]
	if why.logged >= mostOfAnHour || told && now.Sub(at) < sameRefusal {
		why.missed++
		return 0, false
	}
	if len(r.told) >= mostOfRefusals {
		for old, at := range r.told {
			if now.Sub(at) >= sameRefusal {
				delete(r.told, old)
			}
		}
	}
	r.told[same] = now
	missed, why.missed = why.missed, 0
	why.logged++
	return missed, true
}
