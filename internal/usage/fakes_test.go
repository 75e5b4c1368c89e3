package usage

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"testing"

	"shareai/internal/fault"
)

// memorySink is a store that keeps records by id, as the real one does. What is wrong with it can be
// changed at any time.
type memorySink struct {
	mu      sync.Mutex
	records map[string]Record
	inserts int
	largest int
	away    error             // every insert fails with it
	poison  func(Record) bool // an insert with such a record is refused for good
}

func newSink() *memorySink { return &memorySink{records: map[string]Record{}} }

func (s *memorySink) InsertRecords(_ context.Context, records []Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inserts++
	s.largest = max(s.largest, len(records))
	if s.away != nil {
		return s.away
	}
	if s.poison != nil && slices.ContainsFunc(records, s.poison) {
		return fault.New(fault.Invalid, "bad_record", "a record does not fit")
	}
	for _, r := range records {
		s.records[r.ID] = r
	}
	return nil
}

func (s *memorySink) set(change func(*memorySink)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *memorySink) ids() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := map[string]bool{}
	for id := range s.records {
		ids[id] = true
	}
	return ids
}

// calls says how often the sink was called, and with how many records at most.
func (s *memorySink) calls() (inserts, largest int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inserts, s.largest
}

func (s *memorySink) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.records)
}

// faultyDisk is the local disk until it is told to fail.
type faultyDisk struct {
	localDisk
	mu       sync.Mutex
	refuse   error // writes and creations fail with it
	partial  int   // bytes that a failing write leaves behind
	noRepair bool  // truncating fails as well
}

func (d *faultyDisk) set(change func(*faultyDisk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d)
}

func (d *faultyDisk) create(path string) (segmentFile, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refuse != nil && d.partial == 0 {
		return nil, d.refuse
	}
	f, err := d.localDisk.create(path)
	return &faultyFile{segmentFile: f, disk: d}, err
}

type faultyFile struct {
	segmentFile
	disk *faultyDisk
}

func (f *faultyFile) Write(b []byte) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.disk.refuse == nil {
		return f.segmentFile.Write(b)
	}
	n, err := f.segmentFile.Write(b[:min(f.disk.partial, len(b))])
	return n, errors.Join(f.disk.refuse, err)
}

func (f *faultyFile) Truncate(size int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.disk.noRepair {
		return errors.New("truncate: i/o error")
	}
	return f.segmentFile.Truncate(size)
}

// open opens a journal that is closed with the test.
func open(t testing.TB, dir string, o JournalOptions) *Journal { return openOn(t, dir, o, localDisk{}) }

func openOn(t testing.TB, dir string, o JournalOptions, d disk) *Journal {
	t.Helper()
	j, err := openJournal(dir, o, d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

// run runs a shipper until the returned function is called.
func run(t testing.TB, s *Shipper) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	go s.Run(ctx)
	stop = func() { cancel(); <-s.done }
	t.Cleanup(stop)
	return stop
}

func number(i int) *Record { return &Record{ID: "r" + strconv.Itoa(i), Cost: int64(i)} }

func mustAppend(t testing.TB, j *Journal, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if err := j.Append(number(i)); err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
	}
}

func mustFlush(t testing.TB, s *Shipper) {
	t.Helper()
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// collect ships everything that a journal's directory holds.
func collect(t testing.TB, dir string) (*memorySink, Stats) {
	t.Helper()
	sink := newSink()
	j := open(t, dir, JournalOptions{})
	s := NewShipper(j, sink, ShipperOptions{})
	stop := run(t, s)
	mustFlush(t, s)
	stop()
	stats := j.Stats()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return sink, stats
}

// logTo returns a logger and what it wrote.
func logTo() (*slog.Logger, *syncBuffer) {
	b := &syncBuffer{}
	return slog.New(slog.NewTextHandler(b, nil)), b
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
