package admission

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	// kept before the call, wherever they are.
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
	own     *meters // of this process alone; nil where Options.Meters count
	shared  *meters

	mu      sync.Mutex
	away    time.Time // until when the shared meters are not asked
	standIn *meters   // counts while the shared ones are away
	told    map[string]time.Time

	seeding  sync.Mutex
	noLedger time.Time // until when the ledger is not asked; guarded by seeding
}

// meters are meters with what their ledger is.
type meters struct {
	cluster.Meters
	// before is when they began to count: what began earlier is in the ledger. Zero: the ledger counts up to the
	// moment at which it is asked.
	before time.Time
}

// awayTime is how long the shared meters are left alone after they did not answer: nobody else then waits for them.
const awayTime = time.Second

// New makes a gate. Requests that began before are for the ledger to tell.
func New(o Options) *Gate {
	g := &Gate{options: o, told: map[string]time.Time{}}
	if o.Meters == nil {
		g.own = &meters{cluster.NewMemoryMeters(), time.Now()}
	} else {
		g.shared = &meters{o.Meters, time.Time{}}
	}
	return g
}

// Request is what asks to be admitted.
type Request struct {
	ID    string
	Start time.Time
	Lease time.Duration // longer than it can last
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
	p := &Permit{ctx: context.WithoutCancel(ctx), gate: g, ask: ask, holder: cluster.Holder{ID: r.ID, Lease: r.Lease}}
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

// ledgered takes, after having told the meters what was spent before where they do not know it.
func (g *Gate) ledgered(ctx context.Context, p *Permit, strict bool) (cluster.Taken, error) {
	taken, err := p.meters.Take(ctx, p.holder, p.ask.meters)
	if err != nil || !slices.ContainsFunc(taken.Readings, unseeded) {
		return taken, err
	}
	// One request reads the ledger, the others wait for it.
	g.seeding.Lock()
	defer g.seeding.Unlock()
	taken, err = p.meters.Take(ctx, p.holder, p.ask.meters)
	if err != nil || !slices.ContainsFunc(taken.Readings, unseeded) {
		return taken, err
	}
	for i, r := range taken.Readings {
		if !r.Unseeded {
			continue
		}
		spent, err := g.spent(ctx, p.meters, &p.ask.claims[i], p.ask.meters[i].End)
		switch {
		case err != nil && (strict || ctx.Err() != nil):
			return taken, err
		case err != nil:
			p.ask.overlook(taken.Readings)
			return p.meters.Take(ctx, p.holder, p.ask.meters)
		}
		if err := p.meters.Seed(ctx, p.ask.meters[i], spent); err != nil {
			return taken, err
		}
	}
	return p.meters.Take(ctx, p.holder, p.ask.meters)
}

func unseeded(r cluster.Reading) bool { return r.Unseeded }

// seedTime bounds how long a request waits for the ledger. A budget is asked for once in its period.
const seedTime = 5 * time.Second

// spent is what the ledger knows of a budget.
func (g *Gate) spent(ctx context.Context, by *meters, c *claim, end time.Time) (int64, error) {
	of := c.bound.Spending
	of.From, of.To = c.from, end
	if by.before.Before(of.To) && !by.before.IsZero() {
		of.To = by.before
	}
	if g.options.Ledger == nil || !of.From.Before(of.To) {
		return 0, nil
	}
	if time.Now().Before(g.noLedger) {
		return 0, errNoLedger
	}
	ctx, cancel := context.WithTimeout(ctx, seedTime)
	defer cancel()
	spent, err := g.options.Ledger.Spent(ctx, of)
	if err != nil {
		g.noLedger = time.Now().Add(awayTime)
		g.options.Log.WarnContext(ctx, "what is left of a budget can not be found out", "scope", c.bound.Scope, "of", c.bound.ID, "error", fault.Redact(err.Error()))
		return 0, fmt.Errorf("%w: %w", errNoLedger, err)
	}
	return spent, nil
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
func (g *Gate) replacement() *meters {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.standIn == nil {
		g.standIn = &meters{cluster.NewMemoryMeters(), time.Now()}
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
		if g.tell(a.meters[i].Key, a.meters[i].End) {
			g.options.Log.WarnContext(ctx, "a budget is used up", "scope", c.bound.Scope, "of", c.bound.ID, "period", c.budget.Period, "on_exceed", c.budget.OnExceed)
		}
	}
	return cheapest
}

// tell says whether a budget has not been told of.
func (g *Gate) tell(key string, until time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, known := g.told[key]; known {
		return false
	}
	now := time.Now()
	for old, end := range g.told {
		if !now.Before(end) {
			delete(g.told, old)
		}
	}
	g.told[key] = until
	return true
}

// Permit is what an admitted request holds.
type Permit struct {
	// Cheapest says that a budget is used up and the request has to go to the cheapest deployment.
	Cheapest bool

	ctx    context.Context // of the request, without its end
	gate   *Gate
	meters *meters
	ask    *asks
	holder cluster.Holder
	taken  cluster.Taken
}

// Outcome is what a request has come to.
type Outcome struct {
	Tokens int64  // of prompt and answer, over all attempts
	Cost   int64  // nano-dollars
	Model  string // that answered; empty: none
}

// Settle replaces what was estimated by what the request has come to and gives everything back that it held, also when
// the request was cancelled. A nil permit has nothing to settle.
func (p *Permit) Settle(o Outcome) {
	if p == nil {
		return
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
	d := cluster.Due{Meter: m, Amount: m.Amount}
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
