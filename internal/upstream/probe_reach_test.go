package upstream

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"shareai/internal/account"
	"shareai/internal/catalog"
)

func probeTarget(baseURL string) Target {
	return Target{
		Provider: &catalog.Provider{Name: "alpha", Dialect: catalog.OpenAI, BaseURL: baseURL, PrivateNetwork: true},
		Key:      catalog.ProviderKey{Name: "main", Secret: account.NewSecret("sk-alpha-secret")},
	}
}

func TestProbeReadsTheStatus(t *testing.T) {
	for status, want := range map[int]int{200: 0, 301: 0, 404: 0, 405: 0, 429: 0, 501: 0, 401: 401, 403: 403, 500: 500, 502: 502, 503: 503} {
		base := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet || r.URL.Path != "/v1/models" || r.Header.Get("Authorization") != "Bearer sk-alpha-secret" {
				t.Errorf("%s %s with %q", r.Method, r.URL.Path, r.Header.Get("Authorization"))
			}
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
			_, _ = w.Write([]byte(strings.Repeat("x", 1<<20)))
		})
		err := newClient(t, Options{}).Probe(t.Context(), probeTarget(base+"/v1"), catalog.ProbeModels)
		var f *Error
		switch got := errors.As(err, &f); {
		case want == 0 && err != nil:
			t.Errorf("status %d: %v", status, err)
		case want != 0 && (!got || f.Status != want):
			t.Errorf("status %d: %v", status, err)
		}
	}
}

func TestProbeOfWhatIsNotThere(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := silent.Addr().String()
	_ = silent.Close()
	for _, kind := range []catalog.ProbeKind{catalog.ProbeModels, catalog.ProbeTCP} {
		err := newClient(t, Options{}).Probe(t.Context(), probeTarget("http://"+closed+"/v1"), kind)
		var f *Error
		if !errors.As(err, &f) || f.Outcome != ConnectFailed || f.Status != 0 {
			t.Fatalf("%s: %v", kind, err)
		}
		if strings.Contains(f.Message, "127.0.0.1") || strings.Contains(f.Error(), "sk-alpha") {
			t.Errorf("%s: the message tells too much: %s", kind, f.Message)
		}
	}
	public := probeTarget("http://" + closed)
	public.Provider.PrivateNetwork = false
	if err := newClient(t, Options{}).Probe(t.Context(), public, catalog.ProbeTCP); !errors.Is(err, RefusedAddress) {
		t.Errorf("a probe gets past the guard: %v", err)
	}
	if err := newClient(t, Options{}).Probe(t.Context(), probeTarget("ftp://x"), ""); !errors.Is(err, NotFound) {
		t.Errorf("%v", err)
	}
}

func TestProbeEndsWithItsContext(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	base := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		select {
		case <-r.Context().Done():
		case <-release:
		}
	})
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	if err := newClient(t, Options{}).Probe(ctx, probeTarget(base), catalog.ProbeModels); !errors.Is(err, Canceled) {
		t.Errorf("%v", err)
	}
}

func TestProbeByTCPSendsNothing(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a TCP probe asks for %s", r.URL.Path)
	}))
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	if err := newClient(t, Options{RootCAs: roots}).Probe(t.Context(), probeTarget(server.URL+"/v1"), catalog.ProbeTCP); err != nil {
		t.Errorf("%v", err)
	}
	if err := newClient(t, Options{}).Probe(t.Context(), probeTarget(server.URL+"/v1"), catalog.ProbeTCP); !errors.Is(err, TLSFailed) {
		t.Errorf("a certificate that nobody vouches for: %v", err)
	}
}

func TestModelsAddresses(t *testing.T) {
	for base, want := range map[string]string{
		"https://a.example":           "https://a.example/openai/models?api-version=2024-10-21",
		"https://a.example/openai/":   "https://a.example/openai/models?api-version=2024-10-21",
		"https://a.example/openai/v1": "https://a.example/openai/v1/models",
	} {
		got, err := modelsAddress(&catalog.Provider{Dialect: catalog.Azure, BaseURL: base})
		if err != nil || got.String() != want {
			t.Errorf("%s: %v, %v", base, got, err)
		}
	}
	got, err := modelsAddress(&catalog.Provider{Dialect: catalog.OpenAI, BaseURL: "https://u:p@b.example/api/v1/"})
	if err != nil || got.String() != "https://b.example/api/v1/models" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestProbeOfASimulation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ask := func(s catalog.Simulation) error {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			c := New(Options{})
			defer c.Close()
			return c.Probe(ctx, Target{Provider: &catalog.Provider{Name: "s", Dialect: catalog.Simulated, Simulation: s}}, catalog.ProbeModels)
		}
		for _, fault := range append(catalog.Faults, catalog.NoFault) {
			err := ask(catalog.Simulation{Fault: fault})
			if away := fault == catalog.FaultRefused || fault == catalog.FaultHang; (err != nil) != away {
				t.Errorf("%q: %v", fault, err)
			}
		}
		if err := ask(catalog.Simulation{Fault: catalog.FaultRefused, FaultShare: 0.5}); err != nil {
			t.Errorf("a provider that fails now and then is there: %v", err)
		}
	})
}
