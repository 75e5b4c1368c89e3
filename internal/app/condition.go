package app

import (
	"encoding/json"
	"net/http"
	"sync/atomic"

	"shareai/internal/snapshot"
	"shareai/internal/usage"
)

// condition says how the process is. What it says is for everybody to read: reasons are fixed sentences,
// the details are in the log.
type condition struct {
	snapshots *snapshot.Keeper
	journal   *usage.Journal
	reloader  *reloader
	draining  atomic.Bool
}

// state is the answer of /readyz.
type state struct {
	Status   string   `json:"status"`             // ready, degraded or unavailable
	Problems []string `json:"problems,omitempty"` // for people
	Revision int64    `json:"revision"`           // of the configuration in force
	Restart  []string `json:"restart_needed,omitempty"`
}

const (
	ready       = "ready"
	degraded    = "degraded"
	unavailable = "unavailable"
)

// alive answers as long as the process can.
func (c *condition) alive(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, struct {
		Status string `json:"status"`
	}{"ok"})
}

// ready says whether requests can be answered and kept account of. Neither a database that is away nor
// a file with a mistake changes that: the running configuration goes on.
func (c *condition) ready(w http.ResponseWriter, _ *http.Request) {
	s := c.state()
	status := http.StatusOK
	if s.Status == unavailable {
		status = http.StatusServiceUnavailable
	}
	writeJSON(w, status, s)
}

func (c *condition) state() state {
	s := state{Status: ready, Revision: c.snapshots.Current().Revision, Restart: *c.reloader.restart.Load()}
	if c.snapshots.Stale() {
		s.add(degraded, "The database can not be read. The last good configuration stays in force.")
	}
	if c.snapshots.Unfit() {
		s.add(degraded, "What the database declares does not fit the configuration file. The last good configuration stays in force.")
	}
	if c.reloader.refused.Load() {
		s.add(degraded, "The configuration file has a mistake. The last good configuration stays in force.")
	}
	if c.journal.Stats().BacklogRecords > 0 {
		s.add(degraded, "The disk refuses writes. Usage records are kept in memory for now.")
	}
	if c.journal.Ready() != nil {
		s.add(unavailable, "The usage journal takes no records, so that no request is answered.")
	}
	if c.draining.Load() {
		s.add(unavailable, "The gateway is stopping.")
	}
	return s
}

func (s *state) add(status, problem string) {
	s.Status, s.Problems = status, append(s.Problems, problem)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // a struct of strings and numbers always encodes
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
