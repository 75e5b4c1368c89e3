package node

import (
	"errors"
	"io/fs"
	"sync"
	"time"
)

// dayTokens counts the tokens of a day of the machine's local time, and keeps the count in a file.
type dayTokens struct {
	dir   folder
	limit int64 // of a day; 0: none

	mu    sync.Mutex
	count tokenCount
	kept  tokenCount // as it is in the file
}

type tokenCount struct {
	Day    string `json:"day"` // 2026-12-31
	Tokens int64  `json:"tokens"`
}

func openTokens(dir folder, limit int64) (*dayTokens, error) {
	t := &dayTokens{dir: dir, limit: limit}
	err := dir.read(tokensFile, &t.count)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	t.kept = t.count
	return t, err
}

// add notes tokens that were used.
func (t *dayTokens) add(now time.Time, tokens int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn(now)
	t.count.Tokens += max(tokens, 0)
}

// today is what was used on the day of now.
func (t *dayTokens) today(now time.Time) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn(now)
	return t.count.Tokens
}

// spent says whether the limit of the day is reached.
func (t *dayTokens) spent(now time.Time) bool { return t.limit > 0 && t.today(now) >= t.limit }

func (t *dayTokens) turn(now time.Time) {
	if day := now.Local().Format(time.DateOnly); day != t.count.Day {
		t.count = tokenCount{Day: day}
	}
}

// keep writes the count, if it has changed.
func (t *dayTokens) keep() error {
	t.mu.Lock()
	count, same := t.count, t.count == t.kept
	t.kept = count
	t.mu.Unlock()
	if same {
		return nil
	}
	return t.dir.write(tokensFile, count)
}
