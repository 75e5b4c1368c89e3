package app

import (
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"shareai/internal/account"
	"shareai/internal/store"
	"shareai/internal/store/storetest"
)

// cable is a connection to a server that can be pulled out and put back.
type cable struct {
	t       *testing.T
	target  string
	address string

	mu       sync.Mutex
	listener net.Listener
	open     map[net.Conn]bool
	ends     sync.WaitGroup
}

func newCable(t *testing.T, target string) *cable {
	c := &cable{t: t, target: target, address: "127.0.0.1:0", open: map[net.Conn]bool{}}
	c.plug()
	t.Cleanup(c.pull)
	return c
}

// plug puts it in.
func (c *cable) plug() {
	c.t.Helper()
	l, err := net.Listen("tcp", c.address)
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.address, c.listener = l.Addr().String(), l
	c.ends.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", c.target)
			if err != nil {
				_ = near.Close()
				continue
			}
			c.join(near, far)
			c.join(far, near)
		}
	})
}

func (c *cable) join(from, to net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[from] = true
	c.ends.Go(func() {
		_, _ = io.Copy(to, from)
		_ = to.Close()
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.open, from)
	})
}

// pull cuts every connection; new ones are refused.
func (c *cable) pull() {
	c.mu.Lock()
	_ = c.listener.Close()
	for conn := range c.open {
		_ = conn.Close()
	}
	c.mu.Unlock()
	c.ends.Wait()
}

// postgres is a fresh database behind a cable.
func postgres(t *testing.T) (direct store.Options, address string, c *cable) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a PostgreSQL server")
	}
	direct = storetest.Postgres(t).Options
	u, err := url.Parse(direct.Database)
	if err != nil {
		t.Fatal(err)
	}
	c = newCable(t, u.Host)
	u.Host = c.address
	return direct, u.String(), c
}

const sealing = "a-secrets-key-that-all-replicas-share"

func onPostgres(address string) func(*Settings) {
	return func(s *Settings) { s.Database, s.SecretsKey = address, account.NewSecret(sealing) }
}

func TestADatabaseThatIsAwayCostsNoRequestAndNoRecord(t *testing.T) {
	direct, address, line := postgres(t)
	provider := newProvider(t)
	r := run(t, yaml(provider.URL, "good"), onPostgres(address))
	ask := func() {
		t.Helper()
		if got := r.ask(http.MethodPost, "/v1/chat/completions", hello); got.status != 200 {
			t.Fatalf("status %d: %s", got.status, got.body)
		}
	}
	unknown := func() answer {
		t.Helper()
		return r.ask(http.MethodPost, "/v1/chat/completions", hello, "Authorization", "Bearer sk-nobody-0123456789")
	}
	ask()
	if got := unknown(); got.status != 401 {
		t.Errorf("an unknown key: %d %s", got.status, got.body)
	}

	line.pull()
	eventually(t, "readyz notices", func() bool { return r.ask("GET", "/readyz", "").text(t, "status") == "degraded" })
	for range 20 {
		ask()
	}
	if got := r.ask("GET", "/readyz", ""); got.status != 200 || !strings.Contains(got.body, "database") {
		t.Errorf("readyz: %d %s", got.status, got.body)
	}
	if got := unknown(); got.status != 503 || got.header.Get("Retry-After") == "" {
		t.Errorf("an unknown key while nobody can know it: %d %s", got.status, got.body)
	}
	if metrics := r.ask("GET", "/metrics", "").body; !strings.Contains(metrics, "shareai_config_failing 1\n") {
		t.Error("the metrics do not say that the database can not be followed")
	}

	line.plug()
	eventually(t, "readyz recovers", func() bool { return r.ask("GET", "/readyz", "").text(t, "status") == "ready" })
	stored(t, direct, 21)
}

func TestWhatCanNotBeStoredAtTheStopWaitsForTheNextStart(t *testing.T) {
	direct, address, line := postgres(t)
	direct.SecretsKey = account.NewSecret(sealing)
	provider := newProvider(t)
	dir := filepath.Join(t.TempDir(), "data")
	again := func(s *Settings) { s.DataDir, s.Flush = dir, 50*time.Millisecond }

	r := run(t, yaml(provider.URL, "good"), onPostgres(address), again)
	line.pull()
	for range 5 {
		if got := r.ask(http.MethodPost, "/v1/chat/completions", hello); got.status != 200 {
			t.Fatalf("status %d: %s", got.status, got.body)
		}
	}
	if err := r.Stop(); err != nil {
		t.Errorf("Stop without a database: %v", err)
	}
	if log := r.log.String(); !strings.Contains(log, "wait in the journal") || !strings.Contains(log, "records=5") {
		t.Error("the log does not say that records wait")
	}

	line.plug()
	run(t, yaml(provider.URL, "good"), onPostgres(address), again)
	stored(t, direct, 5)
}

// stored waits until the database has this many records.
func stored(t *testing.T, o store.Options, want int64) {
	t.Helper()
	o.SecretsKey = account.NewSecret(sealing)
	rows, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	eventually(t, "all records are stored", func() bool {
		sums, err := rows.Usage(t.Context(), store.UsageQuery{})
		if err != nil {
			t.Fatal(err)
		}
		return len(sums) == 1 && sums[0].Requests == want
	})
}
