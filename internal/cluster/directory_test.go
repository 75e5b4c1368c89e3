package cluster_test

import (
	"testing"
	"time"

	"shareai/internal/cluster"
	"shareai/internal/cluster/clustertest"
	"shareai/internal/fault"
)

func TestMemoryDirectory(t *testing.T) {
	t.Parallel()
	clustertest.RunDirectory(t, func() func(*testing.T) cluster.Directory {
		d := new(cluster.MemoryDirectory)
		return func(*testing.T) cluster.Directory { return d }
	}())
}

func TestRedisDirectory(t *testing.T) {
	t.Parallel()
	server := redisServer(t)
	clustertest.RunDirectory(t, func(t *testing.T) cluster.Directory { return newRedis(t, server, new(logBuffer)).Directory() })
}

func TestMemoryOnce(t *testing.T) {
	t.Parallel()
	o := new(cluster.MemoryOnce)
	clustertest.RunOnce(t, func(*testing.T) cluster.Once { return o })
}

func TestRedisOnce(t *testing.T) {
	t.Parallel()
	server := redisServer(t)
	clustertest.RunOnce(t, func(t *testing.T) cluster.Once { return newRedis(t, server, new(logBuffer)).Once() })
}

func TestDirectoryWithoutRedis(t *testing.T) {
	t.Parallel()
	server := redisServer(t)
	w, near := newWire(t, server)
	r := newRedis(t, near, new(logBuffer))
	w.setCut(true)
	d := r.Directory()
	_, lookup := d.Lookup(t.Context(), "n")
	_, list := d.List(t.Context())
	_, once := r.Once().First(t.Context(), "n", time.Minute)
	for what, err := range map[string]error{
		"announce": d.Announce(t.Context(), cluster.Presence{Node: "n", Replica: "r"}, time.Minute),
		"withdraw": d.Withdraw(t.Context(), "n", "r"), "lookup": lookup, "list": list, "once": once,
	} {
		if fault.From(err).Kind != fault.Unavailable {
			t.Errorf("%s over a cut wire: %v", what, err)
		}
	}
}
