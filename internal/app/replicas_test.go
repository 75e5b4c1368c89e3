package app

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"shareai/internal/account"
	"shareai/internal/control"
)

// tolerance is how long a change may take to reach every replica.
const tolerance = 2 * time.Second

// open opens the data that instances with these settings use.
func open(t *testing.T, s Settings) *Local {
	t.Helper()
	s.Stderr = &output{}
	local, err := OpenLocal(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := local.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return local
}

// reaches checks that a key that is made through local is good at every replica in time, and that a
// revoked one is not.
func reaches(t *testing.T, local *Local, replicas ...*running) {
	t.Helper()
	status := func(r *running, key account.Secret) int {
		return send(t, "GET", r.url+"/v1/models", "", "Authorization", "Bearer "+key.Reveal()).status
	}
	created, err := local.Control.CreateKey(t.Context(), control.KeyRequest{Name: "new", Create: true})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	for _, r := range replicas {
		eventually(t, "the new key is known", func() bool { return status(r, created.Secret) == 200 })
	}
	if took := time.Since(begin); took > tolerance {
		t.Errorf("a new key took %s", took)
	} else {
		t.Logf("a new key took %s", took)
	}
	if _, err := local.Control.RevokeKey(t.Context(), created.Key.ID); err != nil {
		t.Fatal(err)
	}
	begin = time.Now()
	for _, r := range replicas {
		eventually(t, "the key is revoked", func() bool { return status(r, created.Secret) == 401 })
	}
	if took := time.Since(begin); took > tolerance {
		t.Errorf("a revoked key took %s", took)
	} else {
		t.Logf("a revoked key took %s", took)
	}
}

func TestACommandsChangeReachesTheGatewayOnTheSameSQLiteFile(t *testing.T) { // R27
	r := run(t, yaml("http://127.0.0.1:1", "good"))
	reaches(t, open(t, Settings{ConfigFile: r.file, DataDir: filepath.Join(r.dir, "data")}), r)
}

func TestAChangeReachesAllReplicas(t *testing.T) {
	for _, signals := range []string{"by the poll", "by Redis"} {
		t.Run(signals, func(t *testing.T) {
			_, address, _ := postgres(t)
			redis := ""
			if signals == "by Redis" {
				if redis = os.Getenv("SHAREAI_TEST_REDIS"); redis == "" {
					t.Fatal("SHAREAI_TEST_REDIS is not set: run make test, or scripts/services.sh run go test …")
				}
			}
			shared := func(s *Settings) { onPostgres(address)(s); s.Redis = redis }
			file := yaml("http://127.0.0.1:1", "good")
			a, b := run(t, file, shared), run(t, file, shared)
			s := Settings{ConfigFile: a.file, DataDir: t.TempDir()}
			shared(&s)
			reaches(t, open(t, s), a, b)
		})
	}
}

func TestAChangeThatDoesNotFitTheFileIsRefused(t *testing.T) {
	r := run(t, yaml("http://127.0.0.1:1", "good"))
	local := open(t, Settings{ConfigFile: r.file, DataDir: filepath.Join(r.dir, "data")})
	_, err := local.Control.CreateKey(t.Context(), control.KeyRequest{Name: "x", Create: true, Pin: account.Pin{Provider: "nobody"}})
	if err == nil {
		t.Error("a key that is pinned to an unknown provider was made")
	}
	if err := r.reloader.keeper.Refresh(t.Context()); err != nil {
		t.Errorf("the gateway can not follow: %v", err)
	}
}

func TestALocalMayBeClosedTwice(t *testing.T) {
	local, err := OpenLocal(t.Context(), Settings{DataDir: t.TempDir(), Stderr: &output{}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := local.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
}
