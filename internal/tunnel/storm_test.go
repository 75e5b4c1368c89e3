package tunnel

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
)

// A hundred agents that lose their link at once are all back soon.
func TestManyAgentsReconnect(t *testing.T) {
	t.Parallel()
	const agents = 100
	in := install(t, 1)
	hub := in.replicas[0].hub
	var all []*agent
	for n := range agents {
		all = append(all, in.run(t, in.keys.enrol(t, fmt.Sprint("n", n)), http.HandlerFunc(echo)))
	}
	back := func() bool {
		for n := range agents {
			if !hub.Look(fmt.Sprint("n", n)).Local {
				return false
			}
		}
		return true
	}
	await(t, "all are linked", back)
	var former []*agentLink
	for _, a := range all {
		former = append(former, a.dialer.open()...)
	}
	start := time.Now()
	for _, l := range former {
		_ = l.carrier.Close()
	}
	await(t, "all have another link", func() bool {
		for _, a := range all {
			links := a.dialer.open()
			if len(links) != 1 || links[0].opened.Before(start) {
				return false
			}
		}
		return back()
	})
	t.Logf("all are back after %v", time.Since(start))
	var asked sync.WaitGroup
	for n := range agents {
		asked.Go(func() {
			if status, text := ask(t, hub, fmt.Sprint("n", n), "{}"); status != http.StatusOK || text != "{}" {
				t.Errorf("n%d: %d %s", n, status, text)
			}
		})
	}
	asked.Wait()
}

// What comes and goes leaves nothing behind: no goroutine, no file.
func TestNothingIsLeft(t *testing.T) { // not parallel: it counts
	round := func() {
		t.Run("round", func(t *testing.T) {
			in := install(t, 2)
			a := in.run(t, in.keys.enrol(t, "n1"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, "chunk")
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			}))
			in.linked(t, "n1", 2)
			for n := range 10 {
				var response *http.Response
				await(t, "the request is taken", func() (taken bool) {
					var err error
					response, err = in.replicas[n%2].hub.Transport("n1").RoundTrip(post(t.Context(), t, "/v1/chat/completions", "{}"))
					return err == nil
				})
				if n%3 > 0 {
					_ = response.Body.Close()
					continue
				}
				for _, l := range a.dialer.open() { // the hard way
					_ = l.carrier.Close()
				}
				if _, err := io.ReadAll(response.Body); !errors.Is(err, ErrLost) {
					t.Errorf("%v", err)
				}
				_ = response.Body.Close()
				if n > 3 {
					break // more losses, and the node rests
				}
			}
		})
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	}
	round() // what is made once is made now
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	for range 3 {
		round()
	}
	await(t, "everything is back where it was", func() bool { return runtime.NumGoroutine() <= goroutines && openFiles(t) <= files })
}

// openFiles counts the descriptors of this process.
func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0 // another system
	}
	return len(entries)
}
