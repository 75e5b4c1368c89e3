package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"shareai/internal/account"
	"shareai/internal/usage"
)

const canary = "canary-5f1d3a7e99"

func logger(t *testing.T, format Format, level slog.Level) (*slog.Logger, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	log, err := NewLogger(&out, format, level)
	if err != nil {
		t.Fatal(err)
	}
	return log, &out
}

func TestTheLogHidesCredentials(t *testing.T) {
	address, err := url.Parse("postgres://user:" + canary + "@db/x")
	if err != nil {
		t.Fatal(err)
	}
	type settings struct{ Database string }
	for _, format := range []Format{Text, JSON} {
		log, out := logger(t, format, slog.LevelDebug)
		log.Info("Authorization: Bearer " + canary)
		log.Info("x", "error", errors.New("dial postgres://user:"+canary+"@db/x"))
		log.Info("x", "header", http.Header{"Authorization": {"Bearer " + canary}})
		log.Info("x", "url", address)
		log.Info("x", "settings", settings{"redis://:" + canary + "@host"})
		log.Info("x", "secret", account.NewSecret(canary))
		log.Info("x", "password", canary)
		log.Info("x", slog.Group("request", slog.Group("header", "authorization", "Bearer "+canary)))
		log.With("dsn", "postgres://u:"+canary+"@h").WithGroup("g").With("token", canary).Info("x", "a", 1)
		log.Info("x", "lazy", lazy{})
		log.Info("x", "raw", json.RawMessage(`{"api_key":"`+canary+`"}`))
		log.Info("x", "wrapped", fmt.Errorf("outer: %w", errors.New("sk-"+canary)))
		if strings.Contains(out.String(), canary) {
			t.Errorf("%s:\n%s", format, out)
		}
		if lines := strings.Count(out.String(), "\n"); lines != 12 {
			t.Errorf("%s: %d lines", format, lines)
		}
	}
}

// lazy makes its text when it is logged.
type lazy struct{}

func (lazy) LogValue() slog.Value { return slog.StringValue("token=" + canary) }

func TestTheLogKeepsWhatIsHarmless(t *testing.T) {
	log, out := logger(t, JSON, slog.LevelInfo)
	log.With("part", "journal").WithGroup("g").Info("the token bucket is full", "n", 5, "ok", true, "error", errors.New("disk full"), "list", []string{"a", "b"})
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	group, _ := line["g"].(map[string]any)
	if line["msg"] != "the token bucket is full" || line["part"] != "journal" ||
		group["n"] != 5.0 || group["ok"] != true || group["error"] != "disk full" || group["list"] != "[a b]" {
		t.Errorf("line: %s", out)
	}
	log.Debug("hidden")
	if strings.Contains(out.String(), "hidden") {
		t.Error("a line below the level was written")
	}
}

func TestAnUnknownLogFormatIsRefused(t *testing.T) {
	if _, err := NewLogger(&bytes.Buffer{}, "xml", slog.LevelInfo); err == nil || !strings.Contains(err.Error(), "text or json") {
		t.Errorf("error %v", err)
	}
}

func TestTheAccessLogHasALineForEachRequest(t *testing.T) {
	log, out := logger(t, JSON, slog.LevelDebug)
	access := NewAccessLog(t.Context(), log)
	access.Observe(rehearsed())
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	delete(line, "time")
	for key, want := range map[string]any{
		"level": "DEBUG", "msg": "request", "request_id": "req_1", "endpoint": "chat", "who": "acme/app/key_1",
		"requested": "chat", "model": "llama", "provider": "beta", "status": 200.0, "code": "", "ms": 2500.0, "attempts": 4.0, "cost_usd": "0.0015",
		"failover": "server_error", "drill": "drill_1",
	} {
		if line[key] != want {
			t.Errorf("%s = %v, want %v", key, line[key], want)
		}
	}
	if len(line) != 15 {
		t.Errorf("line: %s", out)
	}
}

func TestTheAccessLogWarnsOfFailuresOnly(t *testing.T) {
	log, out := logger(t, Text, slog.LevelInfo)
	access := NewAccessLog(t.Context(), log)
	for _, status := range []int{200, 404, 499} {
		r := answered()
		r.Status = status
		access.Observe(r)
	}
	if out.Len() != 0 {
		t.Errorf("logged above debug: %s", out)
	}
	r := answered()
	r.Status, r.Code = 502, "provider_error"
	access.Observe(r)
	if !strings.Contains(out.String(), "level=WARN") || !strings.Contains(out.String(), "code=provider_error") {
		t.Errorf("a failure was logged as %q", out)
	}
}

func TestTheAccessLogHoldsNothingThatWasSaid(t *testing.T) {
	log, out := logger(t, Text, slog.LevelDebug)
	r := answered()
	r.Content = &usage.Content{Request: []byte("my diagnosis"), Answer: []byte("the diagnosis")}
	r.Code, r.Requested, r.KeyID = "no: diagnosis", strings.Repeat("x", 5000)+"\nforged=1", ""
	NewAccessLog(t.Context(), log).Observe(r)
	if strings.Contains(out.String(), "diagnosis") || strings.Contains(out.String(), "forged") || out.Len() > 1000 {
		t.Errorf("log:\n%s", out)
	}
	if !strings.Contains(out.String(), `who=""`) {
		t.Errorf("somebody unknown has a name: %s", out)
	}
}

func BenchmarkAccessLogOff(b *testing.B) {
	log, _ := NewLogger(&bytes.Buffer{}, Text, slog.LevelInfo)
	access, r := NewAccessLog(b.Context(), log), answered()
	b.ReportAllocs()
	for b.Loop() {
		access.Observe(r)
	}
}
