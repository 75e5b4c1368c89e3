package usage

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"shareai/internal/fault"
)

// The reasons why the journal takes no record. What Append and Ready return wraps one of them in a
// *fault.Error of kind Unavailable.
var (
	ErrJournalFull   = errors.New("the usage journal has reached its size limit")
	ErrJournalBroken = errors.New("the usage journal can not be written and its backlog in memory is full")
	ErrJournalClosed = errors.New("the usage journal is closed")
)

// ErrJournalLocked is what OpenJournal returns when another process has the directory.
var ErrJournalLocked = errors.New("in use by another process")

// ErrRecordTooLarge is what Append returns for a record that is too large even without its content.
var ErrRecordTooLarge = errors.New("the usage record is larger than 1 MiB")

// JournalOptions bounds a journal. The zero value of every field means its default.
type JournalOptions struct {
	SegmentSize    int64         // bytes after which a new segment begins; 0: 8 MiB; at most an eighth of MaxSize
	SegmentAge     time.Duration // age after which a new segment begins, if records come; 0: 10 minutes
	MaxSize        int64         // bytes on disk, everything in the directory; 0: 1 GiB
	SyncInterval   time.Duration // longest time between a write and the beginning of its fsync; 0: 1 second
	BacklogRecords int           // most records kept in memory while the disk refuses writes; 0: 10,000
	BacklogBytes   int64         // their encoded size; 0: 16 MiB
	Logger         *slog.Logger  // nil: nothing is logged
}

func (o JournalOptions) withDefaults() JournalOptions {
	o.MaxSize = cmp.Or(o.MaxSize, 1<<30)
	o.SegmentSize = min(cmp.Or(o.SegmentSize, 8<<20), o.MaxSize/8)
	o.SegmentAge = cmp.Or(o.SegmentAge, 10*time.Minute)
	o.SyncInterval = cmp.Or(o.SyncInterval, time.Second)
	o.BacklogRecords = cmp.Or(o.BacklogRecords, 10_000)
	o.BacklogBytes = cmp.Or(o.BacklogBytes, 16<<20)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	return o
}

// headroom is the part of the room on disk, and half that of the room in memory, that is kept for the
// records of requests which were let in before Ready began to say no.
func (o JournalOptions) headroom() int64 { return o.MaxSize / 16 }

// retryWrite is how long a disk that refused a write is left alone.
const retryWrite = 100 * time.Millisecond

// Journal is an append-only queue of records on local disk: segments of frames, written here and
// shipped, oldest first, by a Shipper.
//
// What it promises. When Append has returned nil and the disk takes writes, the record is in the
// operating system's hands: no end of this process can lose it, kill -9 included. It reaches the
// platter within SyncInterval plus the time of one fsync: that much can be lost when the machine
// itself loses power or its kernel dies. While the disk refuses writes (Stats.BacklogRecords is above
// zero), accepted records are in memory only and end with the process. A record may be shipped more
// than once after a crash, never silently not at all.
//
// A directory belongs to one process at a time.
type Journal struct {
	dir     string
	options JournalOptions
	log     *slog.Logger
	disk    disk
	lock    *os.File
	frames  sync.Pool // *[]byte, for encoding

	state   atomic.Int32 // index into refusals
	refuse  [4]error     // what Append and Ready return in each state
	unsaved chan struct{}
	wake    chan struct{} // to the shipper: there is work, or enough of it
	stop    chan struct{}
	stopped chan struct{}

	mu       sync.Mutex
	closed   bool
	segments []*segment // oldest first
	active   *segment   // the last of segments, or nil
	file     segmentFile
	next     uint64 // number of the next segment
	firstOwn uint64 // number of this process's first segment
	used     int64  // bytes on disk
	unsynced []string
	backlog  [][]byte
	held     int64     // bytes in the backlog
	failedAt time.Time // of the last refused write
	shipped  position
	enough   int64 // pending records at which the shipper is woken early
	changed  chan struct{}
	stats    Stats
	failing  bool // a write error was logged and not yet taken back
}

// The states of a journal; the order is that of Journal.refuse.
const (
	stateReady int32 = iota
	stateFull
	stateBroken
	stateClosed
)

// Stats are the counters of a journal and its shipper since the process began.
type Stats struct {
	Appended int64 // records taken
	Refused  int64 // records not taken: Append returned an error
	Shipped  int64 // records stored by the sink, those of earlier processes included

	PendingRecords int64 // of this process, taken and not yet stored
	PendingBytes   int64 // on disk and not yet stored, those of earlier processes included
	DiskBytes      int64 // everything in the directory
	BacklogRecords int64 // in memory because the disk refuses writes
	BacklogBytes   int64

	WriteErrors  int64 // failed writes and fsyncs
	SinkErrors   int64 // failed inserts
	Torn         int64 // unfinished frames at the end of a crashed process's segment: no loss
	Damaged      int64 // damaged places in segments
	DamagedBytes int64 // bytes that could not be read there
	Quarantined  int64 // records that the sink will never take, set aside in a file
	Lost         int64 // records that were taken and ended with the process, because the disk refused them
}

// OpenJournal opens the journal in dir, which it creates if need be. It begins a segment of its own;
// what earlier processes left is shipped first. ErrJournalLocked says that another process is there.
func OpenJournal(dir string, options JournalOptions) (*Journal, error) {
	return openJournal(dir, options, localDisk{})
}

func openJournal(dir string, options JournalOptions, d disk) (*Journal, error) {
	options = options.withDefaults()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the usage journal: %w", err)
	}
	lock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("usage journal %s: %w; give every process a data directory of its own", dir, err)
	}
	j := &Journal{
		dir: dir, options: options, log: options.Logger, disk: d, lock: lock,
		unsaved: make(chan struct{}, 1), wake: make(chan struct{}, 1),
		stop: make(chan struct{}), stopped: make(chan struct{}),
		enough: 1 << 62,
	}
	j.frames.New = func() any { return new([]byte) }
	j.refuse = [4]error{
		stateFull: unavailable("The gateway can not record usage: its journal is full because the database has been away for too long. Try again later.", ErrJournalFull),
		stateBroken: unavailable("The gateway can not record usage: its disk refuses writes. Try again later.",
			ErrJournalBroken),
		stateClosed: unavailable("The gateway is shutting down. Try again.", ErrJournalClosed),
	}
	if err := j.restore(); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("open the usage journal: %w", err)
	}
	go j.maintain()
	return j, nil
}

func unavailable(message string, cause error) error {
	e := fault.New(fault.Unavailable, "usage_journal_unavailable", message).Because(cause)
	e.RetryAfter = 5 * time.Second
	return e
}

// Append takes a record. It is safe for concurrent use and costs an encoding and one write(2). The
// error is a *fault.Error that wraps ErrJournalFull, ErrJournalBroken, ErrJournalClosed or
// ErrRecordTooLarge; the record is then not kept anywhere.
func (j *Journal) Append(r *Record) error {
	buffer := j.frames.Get().(*[]byte)
	defer j.frames.Put(buffer)
	frame, err := encodeFrame((*buffer)[:0], r)
	*buffer = frame

	j.mu.Lock()
	defer j.mu.Unlock()
	if err == nil {
		err = j.take(frame)
	}
	if err != nil {
		j.stats.Refused++
		return err
	}
	j.stats.Appended++
	j.stats.PendingRecords++
	if j.stats.PendingRecords == 1 || j.stats.PendingRecords == j.enough {
		signal(j.wake)
	}
	return nil
}

// encodeFrame encodes a record without its content if that is what it takes to stay within a frame.
func encodeFrame(dst []byte, r *Record) ([]byte, error) {
	frame := appendRecord(beginFrame(dst), r)
	if len(frame) > headerSize+maxPayload && r.Content != nil {
		bare := *r
		bare.Content = &Content{Truncated: true}
		frame = appendRecord(beginFrame(dst), &bare)
	}
	if len(frame) > headerSize+maxPayload {
		return frame[:0], fault.New(fault.Internal, "internal_error", "The gateway could not record the request.").Because(ErrRecordTooLarge)
	}
	endFrame(frame)
	return frame, nil
}

// take writes a frame, or holds it while the disk refuses writes. The caller has the lock.
func (j *Journal) take(frame []byte) error {
	defer j.judge()
	if j.closed {
		return j.refuse[stateClosed]
	}
	if len(j.backlog) > 0 && time.Since(j.failedAt) >= retryWrite {
		j.drain()
	}
	if len(j.backlog) > 0 {
		return j.hold(frame)
	}
	if j.used+int64(len(frame)) > j.options.MaxSize {
		return j.refuse[stateFull]
	}
	if err := j.write(frame); err != nil {
		j.writeFailed(err)
		return j.hold(frame)
	}
	return nil
}

// hold keeps a frame in memory, behind those that are there already.
func (j *Journal) hold(frame []byte) error {
	if len(j.backlog) >= j.options.BacklogRecords || j.held+int64(len(frame)) > j.options.BacklogBytes {
		return j.refuse[stateBroken]
	}
	j.backlog = append(j.backlog, append([]byte(nil), frame...))
	j.held += int64(len(frame))
	signal(j.unsaved)
	return nil
}

// drain writes as much of the backlog as the disk takes. The caller has the lock.
func (j *Journal) drain() {
	written := 0
	for _, frame := range j.backlog {
		if j.used+int64(len(frame)) > j.options.MaxSize {
			break
		}
		if err := j.write(frame); err != nil {
			j.writeFailed(err)
			break
		}
		j.held -= int64(len(frame))
		written++
	}
	clear(j.backlog[:written])
	if j.backlog = j.backlog[written:]; len(j.backlog) == 0 {
		j.backlog = nil
		if j.failing {
			j.failing = false
			j.log.Info("the usage journal is being written again")
		}
		j.broadcast()
	}
	signal(j.wake)
}

func (j *Journal) writeFailed(err error) {
	j.stats.WriteErrors++
	j.failedAt = time.Now()
	if !j.failing {
		j.failing = true
		j.log.Error("the usage journal can not be written; records are kept in memory", "directory", j.dir, "error", err)
	}
}

// judge brings the state up to date. The caller has the lock.
func (j *Journal) judge() {
	state := stateReady
	switch {
	case j.closed:
		state = stateClosed
	case len(j.backlog) > j.options.BacklogRecords/2 || j.held > j.options.BacklogBytes/2:
		state = stateBroken
	case j.used > j.options.MaxSize-j.options.headroom():
		state = stateFull
	}
	if j.state.Load() != state {
		j.state.Store(state)
		switch state {
		case stateFull, stateBroken:
			j.log.Error("no requests are let in", "error", errors.Unwrap(j.refuse[state]), "pending_bytes", j.pendingBytes())
		case stateReady:
			j.log.Info("requests are let in again")
		}
	}
}

// Ready says whether the journal will take the record of a request that begins now; the error is the
// one to answer with. It begins to refuse a little before Append does, so that the requests that are
// under way can still be recorded. It costs a few nanoseconds.
func (j *Journal) Ready() error { return j.refuse[j.state.Load()] }

// Stats returns the counters.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.stats
	s.PendingBytes = j.pendingBytes()
	s.DiskBytes = j.used
	s.BacklogRecords, s.BacklogBytes = int64(len(j.backlog)), j.held
	return s
}

// pendingBytes counts what is on disk and not yet stored. The caller has the lock.
func (j *Journal) pendingBytes() int64 {
	var n int64
	for _, s := range j.segments {
		switch {
		case s.number > j.shipped.segment:
			n += s.size
		case s.number == j.shipped.segment:
			n += max(s.size-j.shipped.offset, 0)
		}
	}
	return n
}

// Close writes what is left, waits for the disk and releases the directory. When everything was
// shipped it leaves no segment behind. The error says what was lost. Close is idempotent.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		<-j.stopped
		return nil
	}
	j.drain()
	j.closed = true
	j.judge()
	var err error
	if lost := len(j.backlog); lost > 0 {
		j.stats.Lost += int64(lost)
		j.backlog, j.held = nil, 0
		err = fmt.Errorf("close the usage journal: %d records could not be written", lost)
	}
	j.seal()
	j.broadcast()
	j.mu.Unlock()

	close(j.stop)
	<-j.stopped
	err = errors.Join(err, j.sync())
	j.removeShipped()
	return errors.Join(err, j.lock.Close())
}

// maintain brings what was written to the platter, SyncInterval after the first write of a round, and
// writes the backlog when no Append comes along to do it. An idle journal costs nothing.
func (j *Journal) maintain() {
	defer close(j.stopped)
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-j.stop:
			return
		case <-j.unsaved:
		}
		pause.Reset(j.options.SyncInterval)
		select {
		case <-j.stop:
			return
		case <-pause.C:
		}
		j.mu.Lock()
		if len(j.backlog) > 0 {
			j.drain()
			j.judge()
		}
		if len(j.backlog) > 0 {
			signal(j.unsaved)
		}
		if j.active != nil && time.Since(j.active.since) >= j.options.SegmentAge {
			j.seal()
		}
		j.mu.Unlock()
		_ = j.sync() // counted and logged there
	}
}

// broadcast tells every waiting Flush to look again. The caller has the lock.
func (j *Journal) broadcast() {
	if j.changed != nil {
		close(j.changed)
		j.changed = nil
	}
}

// signal makes sure that the receiver of c looks again.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
