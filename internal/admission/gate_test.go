package admission

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"shareai/internal/account"
	"shareai/internal/cluster"
	"shareai/internal/fault"
)

// books is a ledger with one sum in it.
type books struct {
	spent int64
	err   error
	asked []account.Spending
}

func (b *books) Spent(_ context.Context, of account.Spending) (int64, error) {
	b.asked = append(b.asked, of)
	return b.spent, b.err
}

// remote are meters that can be away.
type remote struct {
	*cluster.MemoryMeters
	away bool
	dues []cluster.Due // that were told while away
}

var errRemote = errors.New("connection refused")

func (r *remote) Take(ctx context.Context, h cluster.Holder, meters []cluster.Meter) (cluster.Taken, error) {
	if r.away {
		return cluster.Taken{}, errRemote
	}
	return r.MemoryMeters.Take(ctx, h, meters)
}

func (r *remote) Settle(ctx context.Context, h cluster.Holder, dues []cluster.Due) {
	if r.away {
		r.dues = append(r.dues, dues...)
		return
	}
	r.MemoryMeters.Settle(ctx, h, dues)
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func bound(l account.Limits, budgets ...account.Budget) account.Bound {
	return account.Bound{
		Scope: account.ByProject, ID: "acme/app", Name: "app", Limits: l, Budgets: budgets,
		Spending: account.Spending{Organization: "acme", Projects: []string{"app"}},
	}
}

func monthly(nano int64) account.Budget {
	return account.Budget{Period: account.PerMonth, NanoUSD: nano}
}

// request asks for what bounds its caller.
func request(bounds ...account.Bound) *Request {
	return &Request{ID: rand.Text(), Start: time.Now(), Caller: bounds, Tokens: 100, Cost: 1000}
}

func admit(t *testing.T, g *Gate, r *Request) *Permit {
	t.Helper()
	p, _, err := g.Admit(t.Context(), r)
	if err != nil {
		t.Fatalf("refused: %v", err)
	}
	return p
}

func refuse(t *testing.T, g *Gate, r *Request, kind fault.Kind) *fault.Error {
	t.Helper()
	p, _, err := g.Admit(t.Context(), r)
	var e *fault.Error
	if p != nil || !errors.As(err, &e) || e.Kind != kind {
		t.Fatalf("permit %v, error %v", p, err)
	}
	return e
}

// Of several limits without room the answer names the one that takes longest: to wait for another would be in vain. Who
// waits as he is told is admitted.
func TestTheAnswerNamesWhatTakesLongest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Options{Log: quiet()})
		b := bound(account.Limits{RequestsPerMinute: 1, TokensPerHour: 150, Concurrency: 9})
		admit(t, g, request(b)).Settle(Outcome{Tokens: 100})
		e := refuse(t, g, request(b), fault.RateLimited)
		if e.Code != "rate_limit_exceeded" || !strings.HasPrefix(e.Message, `The project "app" has reached its limit of 150 tokens per hour. Try again in 1h`) {
			t.Errorf("%+v", e)
		}
		time.Sleep(e.RetryAfter)
		admit(t, g, request(b))
	})
}

// A request that is larger than a limit waits until nothing else counts, and is admitted then.
func TestARequestLargerThanALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, b := New(Options{Log: quiet()}), bound(account.Limits{TokensPerMinute: 60})
		admit(t, g, request(b)).Settle(Outcome{Tokens: 300})
		e := refuse(t, g, request(b), fault.RateLimited)
		time.Sleep(e.RetryAfter)
		admit(t, g, request(b))
	})
}

// Clients that wait as they are told are admitted at their next try, and nobody gets more than the limits.
func TestWhoWaitsAsToldIsAdmitted(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			g := New(Options{Log: quiet()})
			b := bound(account.Limits{
				RequestsPerMinute: rapid.Int64Range(1, 5).Draw(rt, "rpm"), RequestsPerHour: rapid.Int64Range(5, 50).Draw(rt, "rph"),
				TokensPerMinute: rapid.Int64Range(50, 1000).Draw(rt, "tpm"), TokensPerDay: rapid.Int64Range(1000, 9000).Draw(rt, "tpd"),
			})
			for range 40 {
				r := request(b)
				r.Tokens = rapid.Int64Range(1, 200).Draw(rt, "tokens")
				p, rates, err := g.Admit(t.Context(), r)
				if err != nil {
					wait := fault.From(err).RetryAfter
					if wait <= 0 {
						rt.Fatalf("%v: wait %s", err, wait)
					}
					time.Sleep(wait)
					if p, rates, err = g.Admit(t.Context(), r); err != nil {
						rt.Fatalf("after %s: %v", wait, err)
					}
				}
				if rates.Requests.Limit == 0 || rates.Requests.Remaining < 0 || rates.Tokens.Remaining < 0 {
					rt.Fatalf("%+v", rates)
				}
				p.Settle(Outcome{Tokens: rapid.Int64Range(0, 400).Draw(rt, "used")})
			}
		})
	})
}

func TestTheHeadersOfTheTightestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Options{Log: quiet()})
		b := bound(account.Limits{RequestsPerMinute: 10, RequestsPerHour: 5, TokensPerMinute: 5000})
		_, rates, err := g.Admit(t.Context(), request(b))
		if err != nil {
			t.Fatal(err)
		}
		got := http.Header{}
		rates.Tell(got)
		want := http.Header{
			"X-Ratelimit-Limit-Requests": {"5"}, "X-Ratelimit-Remaining-Requests": {"4"}, "X-Ratelimit-Reset-Requests": {"1h1m0s"},
			"X-Ratelimit-Limit-Tokens": {"5000"}, "X-Ratelimit-Remaining-Tokens": {"4900"}, "X-Ratelimit-Reset-Tokens": {"1m1s"},
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	})
}

// The period of a budget begins anew by itself, and what was spent before the start counts in the one under way only.
func TestABudgetBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // it is 2000-01-01
		time.Sleep(36 * time.Hour)
		ledger := &books{spent: 900}
		g, b := New(Options{Ledger: ledger, Log: quiet()}), bound(account.Limits{}, monthly(1000))
		first := time.Now()
		admit(t, g, request(b)).Settle(Outcome{Cost: 100})
		e := refuse(t, g, request(b), fault.Exhausted)
		if !strings.Contains(e.Message, "A new one begins at 2000-02-01T00:00:00Z") {
			t.Errorf("%+v", e)
		}
		time.Sleep(31 * 24 * time.Hour)
		ledger.spent = 0
		second := time.Now()
		admit(t, g, request(b)).Settle(Outcome{Cost: 100})
		month := func(n time.Month) time.Time { return time.Date(2000, n, 1, 0, 0, 0, 0, time.UTC) }
		want := []account.Spending{
			{Organization: "acme", Projects: []string{"app"}, From: month(1), To: month(2), Ended: first},
			{Organization: "acme", Projects: []string{"app"}, From: month(2), To: month(3), Ended: second},
		}
		if d := cmp.Diff(want, ledger.asked); d != "" {
			t.Error(d)
		}
	})
}

// A model's budget counts what the model has answered, not what was asked of it.
func TestAModelsBudgetCountsItsAnswers(t *testing.T) {
	g := New(Options{Log: quiet()})
	r := func() *Request {
		r := request()
		for _, name := range []string{"large", "small"} {
			r.Models = append(r.Models, account.Bound{Scope: account.ByModel, ID: name, Name: name, Budgets: []account.Budget{monthly(1000)}})
		}
		return r
	}
	admit(t, g, r()).Settle(Outcome{Cost: 5000, Model: "other"})
	admit(t, g, r()).Settle(Outcome{Cost: 1000, Model: "small"})
	if e := refuse(t, g, r(), fault.Exhausted); !strings.Contains(e.Message, `model "small"`) {
		t.Errorf("%+v", e)
	}
}

// While the shared meters are away this process counts for itself, or refuses where the policy says so; what was spent
// is told to all.
func TestTheMetersAreAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		shared := &remote{MemoryMeters: cluster.NewMemoryMeters()}
		g := New(Options{Meters: shared, Log: slog.New(slog.NewTextHandler(&said, nil))})
		b := bound(account.Limits{RequestsPerMinute: 2}, monthly(10_000))
		admit(t, g, request(b)).Settle(Outcome{Cost: 100})
		shared.away = true
		for range 2 {
			admit(t, g, request(b)).Settle(Outcome{Cost: 100})
		}
		if len(shared.dues) != 2 || shared.dues[0].Meter.Kind != cluster.Money || shared.dues[0].Amount != 100 {
			t.Errorf("told %+v", shared.dues)
		}
		_ = refuse(t, g, request(b), fault.RateLimited)
		strict := request(b)
		strict.Strict = true
		if e := refuse(t, g, strict, fault.Unavailable); e.Code != "limits_unavailable" || e.RetryAfter == 0 {
			t.Errorf("%+v", e)
		}
		shared.away = false
		time.Sleep(awayTime)
		admit(t, g, strict).Settle(Outcome{})
		_ = refuse(t, g, request(b), fault.RateLimited) // as all count: the first and this one
		if lines := strings.Count(said.String(), "\n"); lines != 2 {
			t.Errorf("the log: %s", said.String())
		}
	})
}

// A request that dies without a word gives everything back when its lease ends.
func TestTheDeadHoldNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, b := New(Options{Log: quiet()}), bound(account.Limits{Concurrency: 1}, monthly(1000))
		admit(t, g, request(b)).end() // nobody renews it
		_ = refuse(t, g, request(b), fault.Exhausted)
		time.Sleep(lease)
		admit(t, g, request(b)).Settle(Outcome{})
	})
}

// A request that lives keeps what it holds, however long it takes.
func TestTheLivingKeepWhatTheyHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, b := New(Options{Log: quiet()}), bound(account.Limits{Concurrency: 1}, monthly(1000))
		p := admit(t, g, request(b))
		for range 10 {
			time.Sleep(lease)
			_ = refuse(t, g, request(b), fault.Exhausted)
		}
		p.Settle(Outcome{Cost: 10})
		admit(t, g, request(b)).Settle(Outcome{})
	})
}

// shelf is a ledger of records.
type shelf struct {
	records []account.Spending // From is when the request ended
	cost    int64
	err     error
}

func (s *shelf) Spent(_ context.Context, of account.Spending) (sum int64, err error) {
	for _, r := range s.records {
		if r.From.Before(of.Ended) {
			sum += s.cost
		}
	}
	return sum, s.err
}

// What a process has kept and not told before it died counts once its hold has expired; and what another process with
// the same meters starts with is what the ledger knows.
func TestWhatTheDeadHaveSpentCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger := &shelf{cost: 300}
		all := cluster.NewMemoryMeters()
		dying, living := New(Options{Meters: all, Ledger: ledger, Log: quiet()}), New(Options{Meters: all, Ledger: ledger, Log: quiet()})
		b := bound(account.Limits{}, monthly(1000))
		admit(t, dying, request(b)).end()
		ledger.records = append(ledger.records, account.Spending{From: time.Now()}) // and then it died
		small := func() *Request {
			r := request(b)
			r.Cost = 1
			return r
		}
		_ = refuse(t, living, small(), fault.Exhausted) // the hold
		time.Sleep(lease)
		admit(t, living, small()).Settle(Outcome{Cost: 699})
		admit(t, living, small()).Settle(Outcome{Cost: 1})
		_ = refuse(t, living, small(), fault.Exhausted)
	})
}

// Whatever went wrong, a budget is counted anew from the ledger every so often.
func TestABudgetIsVerified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger := &shelf{cost: 1000}
		g, b := New(Options{Ledger: ledger, Log: quiet()}), bound(account.Limits{}, monthly(1000))
		admit(t, g, request(b)).Settle(Outcome{})
		ledger.records = append(ledger.records, account.Spending{From: time.Now()}) // by a replica of which nobody here knows
		admit(t, g, request(b)).Settle(Outcome{})
		time.Sleep(verifyEvery)
		_ = refuse(t, g, request(b), fault.Exhausted)
	})
}

// A ledger that is away leaves what is counted as it is, and costs one request some time, not all.
func TestALedgerThatIsAwayChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger := &shelf{cost: 600}
		g, b := New(Options{Ledger: ledger, Log: quiet()}), bound(account.Limits{}, monthly(1000))
		admit(t, g, request(b)).Settle(Outcome{Cost: 600})
		ledger.err = errRemote
		time.Sleep(verifyEvery)
		admit(t, g, request(b)).Settle(Outcome{Cost: 600})
		strict := request(b)
		strict.Strict = true
		_ = refuse(t, g, strict, fault.Exhausted)
		ledger.err = nil
		time.Sleep(noLedgerTime)
		admit(t, g, request(b)).Settle(Outcome{}) // nothing is in the ledger, and it is believed
	})
}

// slowShelf is a ledger that looks up while a client leaves.
type slowShelf struct{ leave context.CancelFunc }

func (s *slowShelf) Spent(ctx context.Context, _ account.Spending) (int64, error) {
	s.leave()
	return 1000, ctx.Err()
}

// A client that leaves while the ledger is read does not pass for a ledger that is away.
func TestWhoLeavesDoesNotBlindTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, leave := context.WithCancel(t.Context())
		g, b := New(Options{Ledger: &slowShelf{leave}, Log: quiet()}), bound(account.Limits{}, monthly(1000))
		_, _, _ = g.Admit(ctx, request(b))
		_ = refuse(t, g, request(b), fault.Exhausted)
	})
}

// A budget that is declared in mid-period counts what this very process has spent in it before.
func TestABudgetDeclaredLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger := &shelf{cost: 1000}
		g := New(Options{Ledger: ledger, Log: quiet()})
		time.Sleep(time.Hour)
		ledger.records = append(ledger.records, account.Spending{From: time.Now()})
		time.Sleep(time.Hour)
		_ = refuse(t, g, request(bound(account.Limits{}, monthly(1000))), fault.Exhausted)
	})
}

func TestTheSpansOfBudgets(t *testing.T) {
	day := func(text string) time.Time {
		at, err := time.Parse("2006-01-02", text)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	window := account.Budget{Period: account.Fixed, Start: day("2027-01-15"), End: day("2027-02-01")}
	for _, c := range []struct {
		budget   account.Budget
		at       string
		from, to string // empty: it does not bound
	}{
		{account.Budget{Period: account.PerDay}, "2027-02-28T23:59:59Z", "2027-02-28", "2027-03-01"},
		{account.Budget{Period: account.PerDay}, "2027-03-01T01:00:00+02:00", "2027-02-28", "2027-03-01"},
		{account.Budget{Period: account.PerWeek}, "2027-01-03T12:00:00Z", "2026-12-28", "2027-01-04"}, // a Sunday
		{account.Budget{Period: account.PerWeek}, "2027-01-04T00:00:00Z", "2027-01-04", "2027-01-11"},
		{account.Budget{Period: account.PerMonth}, "2027-12-31T12:00:00Z", "2027-12-01", "2028-01-01"},
		{window, "2027-01-15T00:00:00Z", "2027-01-15", "2027-02-01"},
		{window, "2027-01-14T23:59:59Z", "", ""},
		{window, "2027-02-01T00:00:00Z", "", ""},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		from, to, ok := c.budget.Span(at)
		if ok != (c.from != "") || ok && (!from.Equal(day(c.from)) || !to.Equal(day(c.to))) {
			t.Errorf("%s around %s: %s to %s, %v", c.budget.Period, c.at, from, to, ok)
		}
	}
}

func BenchmarkAdmit(b *testing.B) {
	g := New(Options{Log: quiet()})
	bounds := []account.Bound{bound(account.Limits{RequestsPerMinute: 1 << 40, TokensPerMinute: 1 << 40, Concurrency: 100}, monthly(1<<60))}
	for b.Loop() {
		p, _, err := g.Admit(b.Context(), &Request{ID: "r", Start: time.Now(), Caller: bounds, Tokens: 100, Cost: 100})
		if err != nil {
			b.Fatal(err)
		}
		p.Settle(Outcome{Tokens: 50, Cost: 10})
	}
}
