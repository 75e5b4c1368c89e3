package app

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"shareai/internal/config"
)

// models is what GET /v1/models says.
func (r *running) models() string {
	r.t.Helper()
	return r.ask("GET", "/v1/models", "").body
}

func TestReloadTakesAChangedFileWithoutDroppingAStream(t *testing.T) {
	provider := newProvider(t)
	r := run(t, yaml(provider.URL, "slow"))
	next, _ := r.events(streamed("slow"))
	await(t, next, "one")

	r.write(yaml(provider.URL, "other")) // the stream's own model is gone
	if err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := r.models(); !strings.Contains(got, `"id":"other"`) || strings.Contains(got, `"id":"slow"`) {
		t.Errorf("models %s", got)
	}
	provider.next <- struct{}{}
	provider.next <- struct{}{}
	await(t, next, "[DONE]")
}

func TestAChangedFileIsNoticed(t *testing.T) {
	r := run(t, yaml("http://127.0.0.1:1", "first"))
	r.write(yaml("http://127.0.0.1:1", "second"))
	eventually(t, "the new model", func() bool { return strings.Contains(r.models(), `"id":"second"`) })
}

func TestABadFileChangesNothingAndIsReported(t *testing.T) {
	good := yaml("http://127.0.0.1:1", "good")
	line := fmt.Sprintf(":%d:", strings.Count(good, "\n")+1)
	for name, bad := range map[string]string{
		"it can not be read": good + "nonsense: 1\n",
		"it does not fit":    good + "  - {name: broken, deployments: [{provider: nobody, model: x}]}\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, good)
			r.write(bad)
			err := r.Reload()
			var problems *config.Error
			if !errors.As(err, &problems) {
				t.Fatalf("Reload: %v", err)
			}
			if want := "msg=\"" + r.file + line; !strings.Contains(r.log.String(), want) {
				t.Errorf("the log lacks %q", want)
			}
			if got := r.models(); !strings.Contains(got, `"id":"good"`) {
				t.Errorf("models %s", got)
			}
			ready := r.ask("GET", "/readyz", "")
			if ready.status != 200 || ready.text(t, "status") != "degraded" || !strings.Contains(ready.body, "configuration file has a mistake") {
				t.Errorf("readyz: %d %s", ready.status, ready.body)
			}
			if metrics := r.ask("GET", "/metrics", "").body; !strings.Contains(metrics, "shareai_config_failing 1\n") {
				t.Error("the metrics do not say so")
			}

			r.write(good)
			if err := r.Reload(); err != nil {
				t.Fatal(err)
			}
			if ready := r.ask("GET", "/readyz", ""); ready.text(t, "status") != "ready" {
				t.Errorf("readyz after the file is good again: %s", ready.body)
			}
			if metrics := r.ask("GET", "/metrics", "").body; !strings.Contains(metrics, "shareai_config_failing 0\n") {
				t.Error("the metrics still say that it fails")
			}
		})
	}
}

func TestSettingsThatNeedARestartAreNamed(t *testing.T) {
	good := yaml("http://127.0.0.1:1", "good")
	r := run(t, good)
	// The data directory is set by a flag as well, which wins: no restart would change it.
	r.write(good + "admin_listen: 127.0.0.1:1\nredis: redis://127.0.0.1:1/0\ndata_dir: elsewhere\n")
	if err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(r.log.String(), `settings="admin_listen, redis"`) {
		t.Error("the log does not name them")
	}
	if ready := r.ask("GET", "/readyz", ""); ready.status != 200 || !strings.Contains(ready.body, `"restart_needed":["admin_listen","redis"]`) {
		t.Errorf("readyz: %d %s", ready.status, ready.body)
	}
	r.write(good)
	if err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	if ready := r.ask("GET", "/readyz", ""); strings.Contains(ready.body, "restart_needed") {
		t.Errorf("readyz: %s", ready.body)
	}
}

func TestWithoutAFileThereIsNothingToReload(t *testing.T) {
	r := run(t, "")
	if err := r.Reload(); !errors.Is(err, errNoFile) {
		t.Errorf("Reload: %v", err)
	}
	if ready := r.ask("GET", "/readyz", ""); ready.text(t, "status") != "ready" {
		t.Errorf("readyz: %s", ready.body)
	}
}

func TestAFileThatHasBecomeEmptyIsRefused(t *testing.T) {
	good := yaml("http://127.0.0.1:1", "good")
	r := run(t, good)
	for _, empty := range []string{"", "# all gone\n", "providers:\n  - {name: beta, dialect: simulated}\n"} {
		r.write(empty)
		if err := r.Reload(); err == nil || !strings.Contains(err.Error(), "the file declares nothing; the running configuration stays") {
			t.Fatalf("Reload of %q: %v", empty, err)
		}
		if got := r.models(); !strings.Contains(got, `"id":"good"`) {
			t.Fatalf("after %q: models %s", empty, got)
		}
		if ready := r.ask("GET", "/readyz", ""); ready.text(t, "status") != "degraded" {
			t.Errorf("readyz: %s", ready.body)
		}
	}
	r.write(good)
	if err := r.Reload(); err != nil {
		t.Fatal(err)
	}
}

func TestAGatewayMayStartWithAnEmptyFile(t *testing.T) {
	r := run(t, "# nothing yet\n")
	if err := r.Reload(); err != nil {
		t.Errorf("an empty file that stays empty: %v", err)
	}
	r.write(yaml("http://127.0.0.1:1", "first"))
	if err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := r.models(); !strings.Contains(got, `"id":"first"`) {
		t.Errorf("models %s", got)
	}
}
