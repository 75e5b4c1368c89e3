package usage

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"shareai/internal/fault"
)

// quarantined is one line of quarantine.jsonl. Frame is what a record looked like that could not even
// be decoded.
type quarantined struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
	Record *Record   `json:"record,omitempty"`
	Frame  []byte    `json:"frame,omitempty"` // base64
}

// quarantine sets a record aside. The file counts towards the journal's size, so that a sink that
// refuses everything fills the journal, which is noticed, and loses nothing.
func (j *Journal) quarantine(q quarantined) error {
	q.Reason = fault.Redact(q.Reason)
	line, err := json.Marshal(q)
	if err != nil {
		return fmt.Errorf("quarantine a usage record: %w", err)
	}
	path := filepath.Join(j.dir, "quarantine.jsonl")
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	n, err := file.Write(append(line, '\n'))
	j.grow(int64(n))
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	j.note(func(s *Stats) { s.Quarantined++ })
	id := ""
	if q.Record != nil {
		id = q.Record.ID
	}
	j.log.Error("a usage record can not be stored and was set aside", "file", path, "request_id", id, "reason", q.Reason)
	return nil
}

// note changes the counters.
func (j *Journal) note(change func(*Stats)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	change(&j.stats)
}
