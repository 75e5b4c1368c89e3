package failover

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"shareai/test/faultwall"
)

// long says that outages take as long as they would. `make wall` sets it.
func long() bool { return os.Getenv("SHAREAI_WALL") == "long" }

// pair is a model "m" with a deployment at each of two walls, a before b. The rules are of its policy.
func pair(t testing.TB, rules ...string) (g *gateway, a, b *faultwall.Server) {
	t.Helper()
	a, b = wall(t), wall(t)
	return start(t, "providers:\n"+provider("a", a)+provider("b", b)+
		"models:\n  - {name: m, capabilities: [tools], deployments: [{provider: a, model: up}, {provider: b, model: up}]}\n"+
		fmt.Sprintf("default_policy: p\npolicies:\n  - {%s}\n", strings.Join(append([]string{"name: p"}, rules...), ", "))), a, b
}

// question is a chat that is different from every other one.
func question(n int, members string) string {
	return fmt.Sprintf(`{"model":"m","messages":[{"role":"user","content":"Question %d?"}]%s}`, n, members)
}

// chat asks and says what is wrong with the answer, if anything.
func (g *gateway) chat(ctx context.Context, body string) error {
	asked, err := faultwall.Read(chatPath, []byte(body))
	if err != nil {
		return err
	}
	got := g.ask(ctx, chatPath, body)
	if err := got.honest(asked); err != nil {
		return err
	}
	if !got.finished(asked.Stream) {
		return fmt.Errorf("status %d: %s", got.status, got.body)
	}
	return nil
}

// every runs f until it is told to stop, each time a moment has passed, and waits for what still runs.
func every(moment time.Duration, stop <-chan struct{}, f func(n int)) {
	tick := time.NewTicker(moment)
	defer tick.Stop()
	var running sync.WaitGroup
	defer running.Wait()
	for n := 0; ; n++ {
		select {
		case <-tick.C:
			running.Go(func() { f(n) })
		case <-stop:
			return
		}
	}
}

// The primary answers 503 for a minute: nobody notices, it is hardly asked, and it is back within 30 s.
func TestAPrimaryThatGoesAndComesBack(t *testing.T) {
	if testing.Short() {
		t.Skip("an outage takes seconds")
	}
	t.Parallel()
	outage, probe := 12*time.Second, 5*time.Second // probe: the shortest wait of internal/health
	if long() {
		outage = time.Minute
	}
	g, a, b := pair(t)
	var asked, bad atomic.Int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		every(10*time.Millisecond, stop, func(n int) {
			asked.Add(1)
			members := ""
			if n%2 == 0 {
				members = `,"stream":true`
			}
			if err := g.chat(t.Context(), question(n, members)); err != nil && bad.Add(1) < 5 {
				t.Errorf("request %d: %v", n, err)
			}
		})
	}()
	eventually(t, "the primary serves", patience, func() bool { return a.Calls() > 100 })
	before := b.Calls()

	a.Fail(faultwall.Named("status-503"))
	failing := a.Calls()
	<-time.After(outage)
	calls := a.Calls() - failing
	// Five failures open the circuit; a few more may be under way at that moment.
	if most := 5 + 10 + int(outage/probe); calls > most {
		t.Errorf("%d calls at the primary in %v, more than %d", calls, outage, most)
	}
	if b.Calls() == before {
		t.Error("the fallback was not asked")
	}

	a.Heal()
	healed, served := time.Now(), a.Calls()
	back := eventually(t, "traffic is back at the primary", 30*time.Second, func() bool { return a.Calls() > served+100 })
	t.Logf("%v of 503: %d calls at the primary; back after %v: %t", outage, calls, time.Since(healed).Round(100*time.Millisecond), back)
	close(stop)
	<-stopped
	t.Logf("%d requests, %d failed", asked.Load(), bad.Load())
}

// A primary that fails in turns is never seen to.
func TestFlapping(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"status-503", "reset-unanswered", "cut-after-3", "end-after-3", "error-data-after-3"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, a, _ := pair(t)
			a.Script(faultwall.Alternate(faultwall.Named(name), 2))
			for n := range 60 {
				if err := g.chat(t.Context(), question(n, `,"stream":true`)); err != nil {
					t.Errorf("request %d: %v", n, err)
				}
			}
		})
	}
}

// Two hundred streams run when the provider loses its power: nobody is left with a clean but short answer.
func TestAProviderKilledUnderManyStreams(t *testing.T) {
	const streams, pieces, reached = 200, 20, 6
	for _, c := range []struct {
		name, capabilities, deployments string
		whole                           bool
	}{
		{"prefill", "prefill", "{provider: a, model: up}, {provider: b, model: up}", true},
		{"restart", "tools", "{provider: a, model: up}, {provider: b, model: up}", true},
		{"no fallback", "prefill", "{provider: a, model: up}", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := look()
			a, b := wall(t), wall(t)
			g := start(t, "providers:\n"+provider("a", a)+provider("b", b)+
				fmt.Sprintf("models:\n  - {name: m, capabilities: [%s], deployments: [%s]}\n", c.capabilities, c.deployments))
			a.Gate(func(ctx context.Context, piece int) {
				if piece >= reached {
					<-ctx.Done() // until the power is gone
				}
			})
			var running, ended sync.WaitGroup
			running.Add(streams)
			var interrupted atomic.Int64
			for n := range streams {
				ended.Go(func() {
					body := question(n, fmt.Sprintf(`,"stream":true,"pieces":%d`, pieces))
					asked, err := faultwall.Read(chatPath, []byte(body))
					if err != nil {
						t.Error(err)
					}
					seen, once := 0, sync.OnceFunc(running.Done)
					defer once()
					got := g.ask(t.Context(), chatPath, body, func(*received) {
						if seen++; seen > reached-2 {
							once()
						}
					})
					switch err := got.honest(asked); {
					case err != nil:
						t.Errorf("stream %d: %v", n, err)
					case got.failure != nil:
						interrupted.Add(1)
					}
				})
			}
			running.Wait()
			a.Kill()
			ended.Wait()
			if n := interrupted.Load(); c.whole && n > 0 || !c.whole && n != streams {
				t.Errorf("%d of %d streams ended with an error event", n, streams)
			}
			prefilled := 0
			for _, r := range b.Requests() {
				if r.Prefilled {
					prefilled++
				}
			}
			if c.name == "prefill" && prefilled == 0 || c.name != "prefill" && prefilled > 0 {
				t.Errorf("%d streams were continued by prefill", prefilled)
			}
			g.stop()
			a.Close()
			b.Close()
			settles(t, c.name, before)
		})
	}
}

// Whoever goes on with a stream may break off too.
func TestAStreamThatBreaksAgainAndAgain(t *testing.T) {
	for _, c := range []struct{ capability, fault string }{
		{"prefill", "cut"}, {"tools", "cut"}, {"prefill", "stall"}, {"tools", "error"},
	} {
		t.Run(c.capability+", "+c.fault, func(t *testing.T) {
			breaks := map[string]func(int) faultwall.Fault{
				"cut": faultwall.CutAfter, "stall": faultwall.StallAfter,
				"error": func(n int) faultwall.Fault { return faultwall.ErrorAfter(faultwall.ErrorData, n) },
			}[c.fault]
			var providers, deployments strings.Builder
			var walls []*faultwall.Server
			for i := range 4 {
				w := wall(t)
				walls = append(walls, w)
				if i < 3 {
					pieces := 2 // of what is left
					if c.capability != "prefill" {
						pieces *= i + 1 // of the whole
					}
					w.Fail(breaks(pieces))
				}
				name := fmt.Sprintf("w%d", i)
				providers.WriteString(provider(name, w))
				fmt.Fprintf(&deployments, "{provider: %s, model: up}, ", name)
			}
			g := start(t, "providers:\n"+providers.String()+
				fmt.Sprintf("models:\n  - {name: m, capabilities: [%s], deployments: [%s]}\n", c.capability, deployments.String())+
				"default_policy: p\npolicies:\n  - {name: p, deadlines: {idle: 300ms}}\n")
			if err := g.chat(t.Context(), question(1, `,"stream":true`)); err != nil {
				t.Error(err)
			}
			for i, w := range walls {
				if w.Calls() != 1 {
					t.Errorf("%d calls at wall %d", w.Calls(), i)
				}
			}
		})
	}
}

// A client that leaves takes its provider with it, wherever the stream is.
func TestAClientThatLeavesStopsTheProvider(t *testing.T) {
	g, a, b := pair(t)
	for _, fault := range []string{"silent", "body-stalls", "stall-after-role", "stall-after-3", "deaf"} {
		a.Fail(faultwall.Named(fault))
		calls := a.Calls()
		ctx, leave := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			g.ask(ctx, chatPath, question(1, `,"stream":true`))
		}()
		eventually(t, fault+": the provider is asked", patience, func() bool { return a.Calls() > calls && a.Active() == 1 })
		leave()
		<-ended
		eventually(t, fault+": the provider is left alone", patience, func() bool { return a.Active() == 0 })
	}
	if n := b.Calls(); n > 0 {
		t.Errorf("%d calls at the fallback for clients that left", n)
	}
}

// A restart that says something else is no continuation.
func TestARestartThatSaysSomethingElse(t *testing.T) {
	g, a, b := pair(t)
	a.Fail(faultwall.CutAfter(4))
	b.Speak("other")
	for n := range 20 {
		body := question(n, `,"stream":true`)
		asked, _ := faultwall.Read(chatPath, []byte(body))
		got := g.ask(t.Context(), chatPath, body)
		if n < 5 && got.failure == nil { // later the circuit is open, and b answers alone
			t.Errorf("two texts in one answer: %+v", got.choices)
		}
		if err := got.honest(asked); err != nil && got.failure != nil {
			t.Error(err)
		}
	}
}

// flood asks so many questions, so many at a time, and returns how many failed.
func (g *gateway) flood(t *testing.T, requests, together int) (failures int64) {
	t.Helper()
	var failed atomic.Int64
	var next atomic.Int64
	var workers sync.WaitGroup
	for range together {
		workers.Go(func() {
			for n := next.Add(1); n <= int64(requests); n = next.Add(1) {
				if err := g.chat(t.Context(), question(int(n), "")); err != nil {
					failed.Add(1)
				}
			}
		})
	}
	workers.Wait()
	return failed.Load()
}

// Retries add a fifth to the load of a deployment in trouble, and not more.
func TestNoRetryStorm(t *testing.T) {
	t.Parallel()
	const requests, burst = 500, 10 // burst: see internal/health, the retry budget
	a := wall(t)
	g := start(t, "providers:\n"+provider("a", a)+"models:\n  - {name: m, deployments: [{provider: a, model: up}]}\n"+
		"default_policy: p\npolicies:\n  - {name: p, attempts: {total: 20, per_deployment: 20}}\n")
	a.Fail(faultwall.Named("status-503"))
	if n := g.flood(t, requests, 50); n != requests {
		t.Errorf("%d of %d failed", n, requests)
	}
	if calls, most := a.Calls(), requests+requests/5+burst; calls > most {
		t.Errorf("%d calls for %d requests, more than %d", calls, requests, most)
	} else {
		t.Logf("%d calls for %d requests", calls, requests)
	}
}

// A deployment that fails in a millisecond does not look fast.
func TestABlackHoleGetsNoTraffic(t *testing.T) {
	const requests = 1000
	for _, strategy := range []string{"weighted", "latency"} {
		t.Run(strategy, func(t *testing.T) {
			t.Parallel()
			g, a, b := pair(t, "strategy: "+strategy)
			a.Fail(faultwall.Named("status-503"))
			failures := g.flood(t, requests, 16)
			if failures > requests/100 {
				t.Errorf("%d of %d requests failed", failures, requests)
			}
			if calls := a.Calls(); calls > 60 {
				t.Errorf("the black hole got %d calls, the other %d", calls, b.Calls())
			}
			t.Logf("%d requests, %d failed; %d calls at the black hole, %d at the other", requests, failures, a.Calls(), b.Calls())
		})
	}
}

// A provider key that is refused or at its limit is replaced by the provider's other one.
func TestKeysAreRotated(t *testing.T) {
	for _, name := range []string{"status-401", "status-403", "status-429", "status-429-seconds", "quota"} {
		for _, members := range []string{"", `,"stream":true`} {
			t.Run(name+members, func(t *testing.T) {
				t.Parallel()
				a := wall(t)
				g := start(t, "providers:\n"+provider("a", a, "one", "two")+"models:\n  - {name: m, deployments: [{provider: a, model: up}]}\n")
				fault := faultwall.Named(name)
				var bad atomic.Int64
				a.Script(func(_ int, r *faultwall.Request) faultwall.Fault {
					if r.Header.Get("Authorization") == "Bearer "+secret("a", "one") {
						bad.Add(1)
						return fault
					}
					return faultwall.Fault{}
				})
				for n := range 60 {
					if err := g.chat(t.Context(), question(n, members)); err != nil {
						t.Errorf("request %d: %v", n, err)
					}
				}
				if n := bad.Load(); n < 1 || n > 2 {
					t.Errorf("the bad key was used %d times", n)
				}
			})
		}
	}
}

// When every circuit is open, the least bad deployment serves.
func TestNeverEverythingIsEjected(t *testing.T) {
	t.Parallel()
	g, a, b := pair(t)
	a.Fail(faultwall.Named("status-503"))
	b.Fail(faultwall.Named("status-500"))
	if n := g.flood(t, 60, 4); n != 60 {
		t.Errorf("%d of 60 failed", n)
	}
	calls := a.Calls() + b.Calls()
	got := g.ask(t.Context(), chatPath, question(1000, ""))
	if got.status < 500 || a.Calls()+b.Calls() == calls {
		t.Errorf("status %d, and nobody was asked: %s", got.status, got.body)
	}
	b.Heal()
	a.Heal()
	if err := g.chat(t.Context(), question(1001, "")); err != nil {
		t.Errorf("both are well again: %v", err)
	}
}

// What a fault leaves open ends by itself, while the gateway runs on.
func TestNothingIsLeftBehind(t *testing.T) {
	if testing.Short() {
		t.Skip("deadlines and idle connections take seconds")
	}
	deadlines := "deadlines: {connect: 400ms, headers: 400ms, first_token: 400ms, idle: 400ms, total: 3s}"
	g, a, b := pair(t, deadlines)
	if err := g.chat(t.Context(), question(0, "")); err != nil {
		t.Fatal(err)
	}
	// The providers keep connections that nobody uses for 4 s at most, the client its own.
	idle := func() { g.client.CloseIdleConnections() }
	settled := func() traces {
		idle()
		eventually(t, "idle connections are closed", patience, func() bool { return a.Connections()+b.Connections() == 0 })
		return look()
	}
	before := settled()
	var running sync.WaitGroup
	limit := make(chan struct{}, 16)
	faults := faultwall.Catalogue()
	a.Script(func(call int, _ *faultwall.Request) faultwall.Fault { return faults[call%len(faults)] })
	for n := range 3 * len(faults) {
		if strings.HasPrefix(faults[n%len(faults)].Name, "event-oversized") {
			continue
		}
		running.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			members := ""
			if n%2 == 0 {
				members = `,"stream":true`
			}
			if got := g.ask(t.Context(), chatPath, question(n, members)); got.status != http.StatusOK && got.failure == nil {
				t.Errorf("request %d: status %d, %s", n, got.status, got.body)
			}
		})
	}
	running.Wait()
	settled()
	settles(t, "after every fault", before)
}
