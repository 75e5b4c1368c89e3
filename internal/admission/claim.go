package admission

import (
	"fmt"
	"strconv"
	"time"

	"shareai/internal/account"
	"shareai/internal/cluster"
	"shareai/internal/fault"
)

// asks are the meters of a request, and for each what it stands for.
type asks struct {
	meters []cluster.Meter
	claims []claim
	// blind are those on budgets of which nobody could say what was spent: they refuse nothing, and count.
	blind *asks
	// believing: budgets admit by what is counted, although it may be in doubt.
	believing bool
}

// overlook makes the budgets blind that were not seeded.
func (a *asks) overlook(readings []cluster.Reading) {
	seeing := asks{blind: &asks{}}
	for i := range a.meters {
		into := &seeing
		if readings[i].Unseeded {
			into = seeing.blind
		}
		into.add(a.meters[i], a.claims[i])
	}
	*a = seeing
}

// believe takes the counts of budgets as they are, although they may be in doubt.
func (a *asks) believe() {
	a.believing = true
	for i := range a.meters {
		a.meters[i].Believe = true
	}
}

// unknown says whether the ledger has to tell what was spent.
func (a *asks) unknown(r cluster.Reading) bool { return r.Unseeded || r.Doubt != 0 && !a.believing }

// claim is what a meter stands for.
type claim struct {
	bound  *account.Bound
	budget *account.Budget // of Money
	from   time.Time       // of Money: the first moment of the period
	tokens bool            // of a Rate: it counts tokens, not requests
	unit   string          // "requests per minute"
}

// asksOf lists what a request asks for.
func asksOf(r *Request) *asks {
	a := &asks{}
	for i := range r.Caller {
		a.limits(&r.Caller[i], r.Tokens)
		a.budgets(&r.Caller[i], r)
	}
	if r.Model != nil {
		a.limits(r.Model, r.Tokens)
	}
	for i := range r.Models {
		a.budgets(&r.Models[i], r)
	}
	return a
}

// limits adds the meters of a bound's limits.
func (a *asks) limits(b *account.Bound, tokens int64) {
	l := &b.Limits
	if *l == (account.Limits{}) {
		return
	}
	const day = 24 * time.Hour
	for _, rate := range [...]struct {
		limit  int64
		period time.Duration
		tokens bool
		unit   string
	}{
		{l.RequestsPerMinute, time.Minute, false, "requests per minute"},
		{l.RequestsPerHour, time.Hour, false, "requests per hour"},
		{l.RequestsPerDay, day, false, "requests per day"},
		{l.TokensPerMinute, time.Minute, true, "tokens per minute"},
		{l.TokensPerHour, time.Hour, true, "tokens per hour"},
		{l.TokensPerDay, day, true, "tokens per day"},
	} {
		if rate.limit == 0 {
			continue
		}
		amount := int64(1)
		if rate.tokens {
			// What alone is more than the limit waits until nothing else counts, instead of for ever.
			amount = min(tokens, rate.limit)
		}
		a.add(cluster.Meter{
			Kind: cluster.Rate, Key: key(b, rate.unit), Limit: rate.limit, Amount: amount, Period: rate.period,
		}, claim{bound: b, tokens: rate.tokens, unit: rate.unit})
	}
	if l.Concurrency > 0 {
		a.add(cluster.Meter{Kind: cluster.Places, Key: key(b, "places"), Limit: l.Concurrency, Amount: 1}, claim{bound: b, unit: "requests at the same time"})
	}
}

// budgets adds the meters of a bound's budgets.
func (a *asks) budgets(b *account.Bound, r *Request) {
	for i := range b.Budgets {
		budget := &b.Budgets[i]
		from, to, ok := budget.Span(r.Start)
		if !ok {
			continue
		}
		name := budget.Period + " " + from.Format(time.RFC3339)
		if budget.Period == account.Fixed {
			name += " " + to.Format(time.RFC3339)
		}
		name += " " + strconv.Itoa(i) // two budgets of one thing may differ only in what follows from them
		over := budget.OnExceed == account.Cheapest || budget.OnExceed == account.Alert
		a.add(cluster.Meter{
			Kind: cluster.Money, Key: key(b, name), Limit: budget.NanoUSD, Amount: r.Cost, End: to, Over: over,
		}, claim{bound: b, budget: budget, from: from})
	}
}

func (a *asks) add(m cluster.Meter, c claim) {
	a.meters = append(a.meters, m)
	a.claims = append(a.claims, c)
}

func key(b *account.Bound, what string) string {
	return string(b.Scope) + ":" + b.ID + ":" + what
}

// busyAgain is the Retry-After where all places are taken: nobody knows when one is given back.
const busyAgain = time.Second

// refusal is the answer when a meter has no room: to what will last longest, because waiting for less would be in vain.
func (a *asks) refusal(readings []cluster.Reading) *fault.Error {
	worst, longest := -1, time.Duration(-1)
	for i := range readings {
		if !readings[i].Full || a.meters[i].Over {
			continue
		}
		wait := readings[i].Wait
		switch a.meters[i].Kind {
		case cluster.Money:
			wait = time.Duration(1<<63 - 1)
		case cluster.Places:
			wait = busyAgain
		}
		if wait > longest {
			worst, longest = i, wait
		}
	}
	if worst < 0 { // a budget of which nobody could say what was spent
		return errNoLedger
	}
	c, m := &a.claims[worst], &a.meters[worst]
	if m.Kind == cluster.Money {
		return fault.New(fault.Exhausted, "insufficient_quota", c.spent(m))
	}
	e := fault.New(fault.RateLimited, "rate_limit_exceeded", fmt.Sprintf(
		"The %s has reached its limit of %d %s. Try again in %s.", c.subject(), m.Limit, c.unit, brief(longest)))
	e.RetryAfter = longest
	return e
}

// spent says that a budget is used up.
func (c *claim) spent(m *cluster.Meter) string {
	what := "budget"
	if c.budget.Period != account.Fixed {
		what += " for the " + c.budget.Period
	}
	return fmt.Sprintf("The %s of the %s is used up, or held by requests that are under way. A new one begins at %s; whoever manages it can raise it.",
		what, c.subject(), m.End.UTC().Format(time.RFC3339))
}

// subject is what a bound is of, in words.
func (c *claim) subject() string {
	if c.bound.Scope == account.ByKey {
		return "API key " + strconv.Quote(c.bound.Name)
	}
	return string(c.bound.Scope) + " " + strconv.Quote(c.bound.Name)
}

// brief writes a duration as OpenAI does in its headers: 6m0s, 1.5s, 20ms. It never says less than there is.
func brief(d time.Duration) string {
	if d <= 0 {
		return "0s"
	}
	if rest := d % time.Millisecond; rest != 0 {
		d += time.Millisecond - rest
	}
	return d.String()
}

// Rates are what the tightest limits say to a client: those of which the least is left. Zero: there is none.
type Rates struct {
	Requests, Tokens Rate
}

// Rate is one of them.
type Rate struct {
	Limit, Remaining int64
	Reset            time.Duration // until all of it is left again
}

func (a *asks) rates(readings []cluster.Reading) (r Rates) {
	for i := range readings {
		if a.meters[i].Kind != cluster.Rate {
			continue
		}
		into := &r.Requests
		if a.claims[i].tokens {
			into = &r.Tokens
		}
		if left := max(readings[i].Remaining, 0); into.Limit == 0 || left < into.Remaining {
			*into = Rate{a.meters[i].Limit, left, readings[i].Reset}
		}
	}
	return r
}

// Tell writes the rates into the header of an answer, in OpenAI's form.
func (r Rates) Tell(header map[string][]string) {
	r.Requests.tell(header, "Requests")
	r.Tokens.tell(header, "Tokens")
}

func (r Rate) tell(header map[string][]string, what string) {
	if r.Limit == 0 {
		return
	}
	set := func(name, value string) { header["X-Ratelimit-"+name+"-"+what] = []string{value} }
	set("Limit", strconv.FormatInt(r.Limit, 10))
	set("Remaining", strconv.FormatInt(r.Remaining, 10))
	set("Reset", brief(r.Reset))
}
