package usage

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"shareai/internal/fault"
)

// Sink stores records.
type Sink interface {
	// InsertRecords stores records, all of them or none. It is idempotent by Record.ID: a record that
	// is there already is no error. An error that is a *fault.Error of kind Invalid says that one of
	// the records can never be stored; any other error is tried again. The slice is the caller's and
	// is used again after the return.
	InsertRecords(ctx context.Context, records []Record) error
}

// ShipperOptions tunes a shipper. The zero value of every field means its default.
type ShipperOptions struct {
	BatchRecords int           // most records in an insert; 0: 500
	BatchBytes   int64         // most encoded bytes in an insert, and one record more; 0: 4 MiB
	BatchWait    time.Duration // longest time that a record waits for others; 0: 200 ms
	InsertWithin time.Duration // deadline of one insert; 0: 30 s
	MaxBackoff   time.Duration // longest wait between two tries of a failing sink; 0: 5 s
	Logger       *slog.Logger  // nil: nothing is logged
}

func (o ShipperOptions) withDefaults() ShipperOptions {
	o.BatchRecords = cmp.Or(o.BatchRecords, 500)
	o.BatchBytes = cmp.Or(o.BatchBytes, 4<<20)
	o.BatchWait = cmp.Or(o.BatchWait, 200*time.Millisecond)
	o.InsertWithin = cmp.Or(o.InsertWithin, 30*time.Second)
	o.MaxBackoff = cmp.Or(o.MaxBackoff, 5*time.Second)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	return o
}

// firstBackoff is the scale of the wait after the first failure; it doubles from there.
const firstBackoff = 100 * time.Millisecond

// ErrShipperStopped is what Flush returns when Run has ended before everything was stored.
var ErrShipperStopped = errors.New("the usage shipper has stopped")

// Shipper moves records from a journal to a sink, in order and in batches. It drops nothing: while the
// sink fails it tries again, holding one batch in memory. A record that the sink will never take is
// found by halving its batch, and set aside in the journal's quarantine.jsonl.
type Shipper struct {
	journal *Journal
	sink    Sink
	options ShipperOptions
	log     *slog.Logger

	flushing atomic.Int32  // calls of Flush that are waiting
	hurry    chan struct{} // a Flush has begun
	done     chan struct{} // Run has ended

	// Owned by Run.
	cursor  cursor
	batch   batch
	ailing  bool // the sink fails, and that was logged
	amnesic bool // the position can not be written, and that was logged
}

// batch is what is shipped at once, and the place in the journal behind it.
type batch struct {
	records []Record
	alien   []quarantined // what could not be decoded
	bytes   int64
	own     int64 // how many were written by this process
	end     position
}

func (b *batch) reset(at position) {
	clear(b.records)
	*b = batch{records: b.records[:0], end: at}
}

// NewShipper makes the shipper of a journal; a journal has one.
func NewShipper(journal *Journal, sink Sink, options ShipperOptions) *Shipper {
	s := &Shipper{
		journal: journal, sink: sink, options: options.withDefaults(),
		hurry: make(chan struct{}, 1), done: make(chan struct{}),
	}
	s.log = s.options.Logger
	journal.mu.Lock()
	defer journal.mu.Unlock()
	journal.enough = int64(s.options.BatchRecords)
	s.cursor = cursor{journal: journal, at: journal.shipped}
	return s
}

// Run ships until ctx ends. It is called once. What is not shipped by then stays in the journal for
// the next process; call Flush before, to leave nothing.
func (s *Shipper) Run(ctx context.Context) {
	defer close(s.done)
	defer s.cursor.leave()
	for s.await(ctx) {
		if s.ship(ctx) != nil {
			return
		}
	}
}

// await returns when there is a batch worth shipping, or false when ctx has ended.
func (s *Shipper) await(ctx context.Context) bool {
	var patience *time.Timer
	var over <-chan time.Time
	for ctx.Err() == nil {
		work, enough := s.journal.waiting(s.cursor.at)
		if work && (enough || s.flushing.Load() > 0) {
			return true
		}
		if work && patience == nil {
			patience = time.NewTimer(s.options.BatchWait)
			defer patience.Stop()
			over = patience.C
		}
		select {
		case <-ctx.Done():
		case <-s.journal.wake:
		case <-s.hurry:
		case <-over:
			return true
		}
	}
	return false
}

// waiting says whether there is anything to ship behind a position, and whether it is enough for a
// batch. What an earlier process left is always enough: it has waited long already.
func (j *Journal) waiting(at position) (work, enough bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range j.segments {
		if at.before(position{s.number, s.size}) {
			return true, s.number < j.firstOwn || j.stats.PendingRecords >= j.enough
		}
	}
	return false, false
}

// ship moves one batch. Its only error is the end of ctx.
func (s *Shipper) ship(ctx context.Context) error {
	if err := s.persist(ctx, "read the usage journal", s.gather); err != nil {
		return err
	}
	for _, q := range s.batch.alien {
		if err := s.persist(ctx, "quarantine", func() error { return s.journal.quarantine(q) }); err != nil {
			return err
		}
	}
	if err := s.store(ctx, s.batch.records); err != nil {
		return err
	}
	s.settle()
	return nil
}

// gather fills the batch from the journal.
func (s *Shipper) gather() error {
	b := &s.batch
	b.reset(s.cursor.at)
	for len(b.records) < s.options.BatchRecords && b.bytes < s.options.BatchBytes {
		payload, err := s.cursor.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && len(b.records)+len(b.alien) > 0 {
			break // ship what there is; the error will come again
		}
		if err != nil {
			return err
		}
		b.records = append(b.records, Record{})
		if err := decodeRecord(payload, &b.records[len(b.records)-1]); err != nil {
			b.records = b.records[:len(b.records)-1]
			b.alien = append(b.alien, quarantined{At: time.Now().UTC(), Reason: err.Error(), Frame: bytes.Clone(payload)})
		}
		b.bytes += int64(len(payload))
		if s.cursor.at.segment >= s.journal.firstOwn {
			b.own++
		}
	}
	b.end = s.cursor.at
	return nil
}

// store inserts records, halving them where one of them can never be stored. Its only error is the end
// of ctx.
func (s *Shipper) store(ctx context.Context, records []Record) error {
	if len(records) == 0 {
		return nil
	}
	refused := s.insert(ctx, records)
	switch {
	case refused == nil:
		s.journal.note(func(st *Stats) { st.Shipped += int64(len(records)) })
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case len(records) == 1:
		q := quarantined{At: time.Now().UTC(), Reason: refused.Error(), Record: &records[0]}
		return s.persist(ctx, "quarantine", func() error { return s.journal.quarantine(q) })
	}
	half := len(records) / 2
	if err := s.store(ctx, records[:half]); err != nil {
		return err
	}
	return s.store(ctx, records[half:])
}

// insert tries until the sink has taken the records, or refuses them for good, or ctx ends.
func (s *Shipper) insert(ctx context.Context, records []Record) error {
	for failures := 0; ; failures++ {
		within, cancel := context.WithTimeout(ctx, s.options.InsertWithin)
		err := s.sink.InsertRecords(within, records)
		cancel()
		if err == nil {
			if s.ailing {
				s.ailing = false
				s.log.Info("usage records are being stored again")
			}
			return nil
		}
		var known *fault.Error
		if errors.As(err, &known) && known.Kind == fault.Invalid || ctx.Err() != nil {
			return err
		}
		s.journal.note(func(st *Stats) { st.SinkErrors++ })
		if !s.ailing {
			s.ailing = true
			s.log.Error("usage records can not be stored; they are kept in the journal", "error", fault.Redact(err.Error()))
		}
		if err := s.pause(ctx, failures); err != nil {
			return err
		}
	}
}

// persist repeats an act on the local disk until it succeeds or ctx ends.
func (s *Shipper) persist(ctx context.Context, what string, act func() error) error {
	for failures := 0; ; failures++ {
		err := act()
		if err == nil {
			return nil
		}
		if failures == 0 {
			s.log.Error("the usage journal's directory fails; trying again", "act", what, "error", err)
		}
		if err := s.pause(ctx, failures); err != nil {
			return err
		}
	}
}

// pause waits before the next try: longer after each failure, and never all processes together. A
// Flush cuts it short.
func (s *Shipper) pause(ctx context.Context, failures int) error {
	scale := min(firstBackoff<<min(failures, 20), s.options.MaxBackoff)
	timer := time.NewTimer(scale/2 + rand.N(scale/2+1))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-s.hurry:
	}
	return ctx.Err()
}

// settle makes the journal forget the batch.
func (s *Shipper) settle() {
	err := writePosition(s.journal.dir, s.batch.end)
	if err != nil && !s.amnesic {
		s.log.Error("the position in the usage journal can not be written; after a crash some records will be shipped twice, which is harmless", "error", err)
	}
	s.amnesic = err != nil
	if s.cursor.frames.offset >= s.cursor.frames.limit {
		s.cursor.leave() // an open file can not be removed everywhere
	}
	s.journal.stored(s.batch.end, s.batch.own)
}

// Flush waits until every record that was appended before the call is stored or set aside. It hurries
// the shipper along. The error is that of ctx, or ErrShipperStopped.
func (s *Shipper) Flush(ctx context.Context) error {
	s.flushing.Add(1)
	defer s.flushing.Add(-1)
	signal(s.hurry)
	var target position
	written := func(j *Journal) bool {
		if len(j.backlog) > 0 {
			j.drain()
			j.judge()
		}
		target = j.end()
		return len(j.backlog) == 0
	}
	if err := s.until(ctx, written); err != nil {
		return err
	}
	return s.until(ctx, func(j *Journal) bool { return !j.shipped.before(target) })
}

// until waits for something to be true of the journal, under its lock.
func (s *Shipper) until(ctx context.Context, holds func(*Journal) bool) error {
	for {
		s.journal.mu.Lock()
		if holds(s.journal) {
			s.journal.mu.Unlock()
			return nil
		}
		if s.journal.changed == nil {
			s.journal.changed = make(chan struct{})
		}
		changed := s.journal.changed
		s.journal.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("usage records are still being stored: %w", ctx.Err())
		case <-s.done:
			return ErrShipperStopped
		}
	}
}
