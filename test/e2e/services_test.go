package e2e

import (
	"bytes"
	"context"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// services are a PostgreSQL and a Redis that a test may end and start again: nobody else uses them.
type services struct {
	dir, postgres, redis string
}

const servicesScript = "../../scripts/services.sh"

func startServices(t *testing.T) *services {
	t.Helper()
	slow(t)
	s := &services{}
	t.Cleanup(func() {
		if s.dir != "" {
			s.run(t, "stop", s.dir)
		}
	})
	for line := range strings.Lines(s.run(t, "start")) {
		name, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		value = strings.Trim(value, "'")
		switch name {
		case "SHAREAI_TEST_SERVICES":
			s.dir = value
		case "SHAREAI_TEST_POSTGRES":
			s.postgres = value
		case "SHAREAI_TEST_REDIS":
			s.redis = value
		}
	}
	return s
}

func (s *services) run(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), servicesScript, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("services.sh %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

// halt ends the process of a server, "postgres" or "redis"; Redis loses its data. resume starts it again.
func (s *services) halt(t *testing.T, server string) { t.Helper(); s.run(t, "halt", server, s.dir) }

func (s *services) resume(t *testing.T, server string) { t.Helper(); s.run(t, "resume", server, s.dir) }

// boot is the beginning of the file of a gateway that uses both.
func (s *services) boot() string {
	return "database: " + s.postgres + "\nredis: " + s.redis + "\nsecrets_key: the-same-for-all-replicas-of-a-test"
}

// account is what Redis counts of the only budget there is, in nano-dollars.
func (s *services) account(t *testing.T) (spent, held int64) {
	t.Helper()
	options, err := redis.ParseURL(s.redis)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	defer func() { _ = client.Close() }()
	keys, err := client.Keys(t.Context(), "shareai:*:month *Z 0").Result()
	if err != nil {
		t.Fatal(err)
	}
	if len(keys) != 1 {
		return 0, 0 // nobody has asked yet
	}
	fields, err := client.HGetAll(t.Context(), keys[0]).Result()
	if err != nil {
		t.Fatal(err)
	}
	spent, _ = strconv.ParseInt(fields["spent"], 10, 64)
	held, _ = strconv.ParseInt(fields["held"], 10, 64)
	return spent, held
}
