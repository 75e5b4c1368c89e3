package admission

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"shareai/internal/account"
	"shareai/internal/cluster"
	"shareai/internal/fault"
)

// Ledger knows what was spent.
type Ledger interface {
	// Spent is the cost of the records that a Spending selects, in nano-dollars: of all that this process has
	// kept before the call, wherever they are, and of what others have shipped.
	Spent(ctx context.Context, of account.Spending) (int64, error)
}

// Options are what a Gate is made of. Log is needed.
type Options struct {
	// Meters count for all replicas. Nil: this process counts for itself.
	Meters cluster.Meters
	// Ledger tells what was spent before. Nil: nothing was.
	Ledger Ledger
	Log    *slog.Logger
}

// Gate admits requests.
type Gate struct {
	options Options
	own     cluster.Meters // of this process alone; nil where Options.Meters count
	shared  cluster.Meters

	mu       sync.Mutex
	away     time.Time      // until when the shared meters are not asked
	standIn  cluster.Meters // counts while the shared ones are away
	noLedger time.Time      // until when the ledger is not asked
	budgets  map[string]*noted
	sweep    int // number of budgets at which those that are over are forgotten

	seeding sync.Mutex
}

// noted is what this process remembers of a budget.
type noted struct {
	until  time.Time // its end
	verify time.Time // when it is counted anew from the ledger
	told   bool      // that it is used up
}

const (
	// awayTime is how long the shared meters are left alone after they did not answer: nobody else then waits for them.
	awayTime = time.Second
	// noLedgerTime is the same for the ledger, for which one waits longer.
	noLedgerTime = 5 * time.Second
	// lease is how long what a request holds outlives a process that dies; renewal is how often a living one renews it.
	lease   = 20 * time.Second
	renewal = 6 * time.Second
	// verifyEvery is how often a budget is counted anew from the ledger, whatever has gone wrong before.
	verifyEvery = 10 * time.Minute
	// shippingTime is by when a record is in the ledger that any replica has kept. What is counted anew comes from the
	// ledger up to then, and from what was settled since.
	shippingTime = 5 * time.Second
	// sweepAfter is the least number of budgets at which those that are over are looked for.
	sweepAfter = 256
)

// New makes a gate.
func New(o Options) *Gate {
	g := &Gate{options: o, budgets: map[string]*noted{}, sweep: sweepAfter}
	if o.Meters == nil {
		g.own = cluster.NewMemoryMeters()
	} else {
		g.shared = o.Meters
	}
	return g
}

// Request is what asks to be admitted.
type Request struct {
	ID    string
	Start time.Time
	// Caller are the bounds of the principal, Model that of the model that is to answer, Models those of all
	// that may: a budget of a model counts what it has answered.
	Caller []account.Bound
	Model  *account.Bound
	Models []account.Bound
	Tokens int64 // estimated, of prompt and answer
	Cost   int64 // the most that it is expected to cost, in nano-dollars
	// Strict refuses when the shared meters are away; else this process counts for itself meanwhile.
	Strict bool
}

// errAway is the answer where a policy refuses what can not be counted.
var errAway = &fault.Error{
	Kind: fault.Unavailable, Code: "limits_unavailable", RetryAfter: 2 * time.Second,
	Message: "Limits can not be checked at the moment, and the policy of this model admits nothing unchecked. Try again shortly.",
}

// Admit takes what the request asks for from everything that bounds it. The error is a *fault.Error for the client:
// of kind RateLimited, Exhausted or Unavailable. Rates are told in either case, where there are any. Where the error is
// nil, Permit.Settle has to be called.
func (g *Gate) Admit(ctx context.Context, r *Request) (*Permit, Rates, error) {
	ask := asksOf(r)
	if len(ask.meters) == 0 {
		return nil, Rates{}, nil
	}
	p := &Permit{ctx: context.WithoutCancel(ctx), gate: g, ask: ask, holder: cluster.Holder{ID: r.ID, Lease: lease}}
	taken, err := g.take(ctx, p, r.Strict)
	if err != nil {
		return nil, Rates{}, err
	}
	p.taken = taken
	rates := ask.rates(taken.Readings)
	if !taken.Admitted {
		return nil, rates, ask.refusal(taken.Readings)
	}
	p.Cheapest = g.exceeded(ctx, ask, taken.Readings)
	p.keep()
	return p, rates, nil
}

// take asks the meters that count at this moment.
func (g *Gate) take(ctx context.Context, p *Permit, strict bool) (cluster.Taken, error) {
	if g.own != nil {
		p.meters = g.own
		return g.ledgered(ctx, p, strict)
	}
	if g.present() {
		p.meters = g.shared
		taken, err := g.ledgered(ctx, p, strict)
		if err == nil {
			g.back()
			return taken, nil
		}
		if ctx.Err() != nil {
			return cluster.Taken{}, ctx.Err()
		}
		if errors.Is(err, errNoLedger) {
			return cluster.Taken{}, err
		}
		g.lost(ctx, err)
	}
	if strict {
		return cluster.Taken{}, errAway
	}
	p.meters = g.replacement()
	return g.ledgered(ctx, p, strict)
}

// ledgered takes, after having told the meters what was spent before where they do not know it, or are in doubt.
func (g *Gate) ledgered(ctx context.Context, p *Permit, strict bool) (cluster.Taken, error) {
	if g.options.Ledger == nil || g.ledgerAway() {
		p.ask.believe()
	} else if due := g.unverified(p.ask); len(due) > 0 {
		if err := p.meters.Doubt(ctx, due); err != nil {
			return cluster.Taken{}, err
		}
	}
	taken, err := p.take(ctx)
	if err != nil || !slices.ContainsFunc(taken.Readings, p.ask.unknown) {
		return taken, err
	}
	// One request reads the ledger, the others wait for it.
	g.seeding.Lock()
	defer g.seeding.Unlock()
	taken, err = p.take(ctx)
	if err != nil || !slices.ContainsFunc(taken.Readings, p.ask.unknown) {
		return taken, err
	}
	blind := false
	for i, r := range taken.Readings {
		if !p.ask.unknown(r) {
			continue
		}
		sum, err := g.sum(ctx, &p.ask.claims[i], p.ask.meters[i].End, r.Doubt)
		switch {
		case err == nil:
			if err := p.meters.Seed(context.WithoutCancel(ctx), p.ask.meters[i], sum); err != nil {
				return taken, err
			}
			if r.Unseeded {
				g.verifySoon(&p.ask.meters[i])
			}
		case strict && r.Unseeded:
			return taken, err
		default:
			blind = blind || r.Unseeded
		}
	}
	if blind {
		p.ask.overlook(taken.Readings)
	}
	p.ask.believe() // it was counted a moment ago, or can not be
	return p.take(ctx)
}

// sum is what the ledger knows of a budget. doubt is that of its reading; zero: nothing was known.
func (g *Gate) sum(ctx context.Context, c *claim, end time.Time, doubt int64) (cluster.Sum, error) {
	sum := cluster.Sum{Ended: time.Now(), Doubt: doubt}
	if doubt != 0 {
		sum.Ended = sum.Ended.Truncate(time.Second).Add(-shippingTime)
	}
	if g.options.Ledger == nil {
		return sum, nil
	}
	if g.ledgerAway() {
		return sum, errNoLedger
	}
	of := c.bound.Spending
	of.From, of.To, of.Ended = c.from, end, sum.Ended
	patience := seedTime
	if doubt != 0 {
		patience = doubtTime
	}
	// All wait for this one: that its client leaves is no reason to stop.
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	var err error
	if sum.Spent, err = g.options.Ledger.Spent(within, of); err != nil {
		g.mu.Lock()
		g.noLedger = time.Now().Add(noLedgerTime)
		g.mu.Unlock()
		g.options.Log.WarnContext(ctx, "what is left of a budget can not be found out", "scope", c.bound.Scope, "of", c.bound.ID, "error", fault.Redact(err.Error()))
		return sum, fmt.Errorf("%w: %w", errNoLedger, err)
	}
	return sum, nil
}

// How long a request waits for the ledger: where it knows what nobody else does, and where it only knows better.
const (
	seedTime  = 2 * time.Second
	doubtTime = 500 * time.Millisecond
)

func (g *Gate) ledgerAway() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Now().Before(g.noLedger)
}

// unverified lists the budgets that are to be counted anew: those that this process asks for the first time, because
// another one may have died before it had told everything, and all of them every so often.
func (g *Gate) unverified(a *asks) (due []cluster.Meter) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range a.meters {
		m := &a.meters[i]
		if m.Kind != cluster.Money {
			continue
		}
		if n := g.noted(m, now); !now.Before(n.verify) {
			n.verify = now.Add(verifyEvery)
			due = append(due, *m)
		}
	}
	return due
}

// verifySoon has a budget of which nothing was known counted anew once the records of all replicas are in the ledger.
func (g *Gate) verifySoon(m *cluster.Meter) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.noted(m, now).verify = now.Add(2 * shippingTime)
}

// noted is what is remembered of a budget; g.mu is held.
func (g *Gate) noted(m *cluster.Meter, now time.Time) *noted {
	n := g.budgets[m.Key]
	if n == nil {
		if len(g.budgets) >= g.sweep {
			maps.DeleteFunc(g.budgets, func(_ string, n *noted) bool { return !now.Before(n.until) })
			g.sweep = max(sweepAfter, 2*len(g.budgets))
		}
		n = &noted{until: m.End}
		g.budgets[m.Key] = n
	}
	return n
}

var errNoLedger = &fault.Error{
	Kind: fault.Unavailable, Code: "limits_unavailable", RetryAfter: 2 * time.Second,
	Message: "What is left of a budget can not be found out at the moment. Try again shortly.",
}

// present says whether the shared meters are worth asking.
func (g *Gate) present() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !time.Now().Before(g.away)
}

// lost notes that the shared meters did not answer.
func (g *Gate) lost(ctx context.Context, cause error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.away.IsZero() {
		g.options.Log.WarnContext(ctx, "limits are counted by this replica alone, or refused where the policy says so", "error", fault.Redact(cause.Error()))
		for _, n := range g.budgets { // nobody knows what they will know when they are back
			n.verify = time.Time{}
		}
	}
	g.away = time.Now().Add(awayTime)
}

// back notes that they did.
func (g *Gate) back() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.away.IsZero() && !time.Now().Before(g.away) {
		g.away, g.standIn = time.Time{}, nil
		g.options.Log.Info("limits are counted by all replicas together again")
	}
}

// replacement returns the meters that count while the shared ones are away: new ones each time.
func (g *Gate) replacement() cluster.Meters {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.standIn == nil {
		g.standIn = cluster.NewMemoryMeters()
	}
	return g.standIn
}

// exceeded says whether a budget that is used up wants the cheapest deployment, and tells the log once a period of
// every budget that is used up and refuses nothing.
func (g *Gate) exceeded(ctx context.Context, a *asks, readings []cluster.Reading) (cheapest bool) {
	for i := range readings {
		c := &a.claims[i]
		if a.meters[i].Kind != cluster.Money || !readings[i].Full {
			continue
		}
		cheapest = cheapest || c.budget.OnExceed == account.Cheapest
		if g.tell(&a.meters[i]) {
			g.options.Log.WarnContext(ctx, "a budget is used up", "scope", c.bound.Scope, "of", c.bound.ID, "period", c.budget.Period, "on_exceed", c.budget.OnExceed)
		}
	}
	return cheapest
}

// tell says whether of a budget nothing has been told yet.
func (g *Gate) tell(m *cluster.Meter) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.noted(m, time.Now())
	first := !n.told
	n.told = true
	return first
}

// Permit is what an admitted request holds.
type Permit struct {
	// Cheapest says that a budget is used up and the request has to go to the cheapest deployment.
	Cheapest bool

	ctx    context.Context // of the request, without its end
	gate   *Gate
	meters cluster.Meters
	ask    *asks
	holder cluster.Holder
	taken  cluster.Taken

	mu      sync.Mutex
	settled bool
	renewal *time.Timer // nil where nothing is leased
}

func (p *Permit) take(ctx context.Context) (cluster.Taken, error) {
	return p.meters.Take(ctx, p.holder, p.ask.meters)
}

// keep renews what is leased, until it is settled.
func (p *Permit) keep() {
	leased := slices.DeleteFunc(slices.Clone(p.ask.meters), func(m cluster.Meter) bool { return m.Kind == cluster.Rate })
	if len(leased) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.renewal = time.AfterFunc(renewal, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.settled {
			return
		}
		// What can not be renewed now may be so later: the meters take again what they have lost.
		_ = p.meters.Renew(p.ctx, p.holder, leased)
		p.renewal.Reset(renewal)
	})
}

// end ends the renewal.
func (p *Permit) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settled = true
	if p.renewal != nil {
		p.renewal.Stop()
	}
}

// Outcome is what a request has come to.
type Outcome struct {
	Tokens int64     // of prompt and answer, over all attempts
	Cost   int64     // nano-dollars
	Model  string    // that answered; empty: none
	Ended  time.Time // as its record says; zero: now
}

// Settle replaces what was estimated by what the request has come to and gives everything back that it held, also when
// the request was cancelled. A nil permit has nothing to settle.
func (p *Permit) Settle(o Outcome) {
	if p == nil {
		return
	}
	p.end()
	if o.Ended.IsZero() {
		o.Ended = time.Now()
	}
	dues := make([]cluster.Due, 0, len(p.ask.meters))
	for i := range p.ask.meters {
		d := p.ask.due(i, o)
		d.Step = p.taken.Readings[i].Step
		dues = append(dues, d)
	}
	if blind := p.ask.blind; blind != nil {
		for i := range blind.meters {
			dues = append(dues, blind.due(i, o))
		}
	}
	p.meters.Settle(p.ctx, p.holder, dues)
	if shared := p.gate.shared; shared != nil && shared != p.meters { // what was counted here meanwhile is everybody's
		dues = slices.DeleteFunc(dues, func(d cluster.Due) bool { return d.Meter.Kind != cluster.Money })
		shared.Settle(p.ctx, p.holder, dues)
	}
}

// due is what a meter is due.
func (a *asks) due(i int, o Outcome) cluster.Due {
	c, m := &a.claims[i], a.meters[i]
	d := cluster.Due{Meter: m, Amount: m.Amount, Ended: o.Ended}
	switch {
	case m.Kind == cluster.Money && c.bound.Scope == account.ByModel && c.bound.ID != o.Model:
		d.Amount = 0
	case m.Kind == cluster.Money:
		d.Amount = o.Cost
	case c.tokens:
		d.Amount = o.Tokens
	}
	return d
}
