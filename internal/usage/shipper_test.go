package usage

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRecordsAreShippedWithinTheBatchWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := open(t, t.TempDir(), JournalOptions{})
		sink := newSink()
		stop := run(t, NewShipper(j, sink, ShipperOptions{}))
		time.Sleep(time.Hour) // the bubble's clock
		mustAppend(t, j, 0, 3)
		time.Sleep(199 * time.Millisecond)
		if sink.count() != 0 {
			t.Error("a small batch was not held back")
		}
		time.Sleep(2 * time.Millisecond)
		if inserts, _ := sink.calls(); sink.count() != 3 || inserts != 1 {
			t.Errorf("%d records in %d inserts", sink.count(), inserts)
		}
		mustAppend(t, j, 3, 503) // a full batch waits for nothing
		synctest.Wait()
		if sink.count() != 503 {
			t.Errorf("%d records", sink.count())
		}
		stop()
	})
}

func TestFlushWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := open(t, t.TempDir(), JournalOptions{})
		sink := newSink()
		s := NewShipper(j, sink, ShipperOptions{BatchWait: time.Hour})
		stop := run(t, s)
		mustFlush(t, s) // nothing to do
		mustAppend(t, j, 0, 3)
		began := time.Now()
		mustFlush(t, s)
		if sink.count() != 3 || time.Since(began) > 0 {
			t.Errorf("%d records after %v", sink.count(), time.Since(began))
		}
		mustAppend(t, j, 3, 4)
		sink.set(func(s *memorySink) { s.away = errors.New("away") })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the sink is away: %v", err)
		}
		stop()
		if err := s.Flush(t.Context()); !errors.Is(err, ErrShipperStopped) {
			t.Errorf("stopped: %v", err)
		}
	})
}

// Pitfall 12 and 14: a database that is away for ten minutes costs no record and no memory.
func TestASinkThatIsAwayForTenMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, lines := logTo()
		j := open(t, t.TempDir(), JournalOptions{SegmentSize: 256 << 10})
		sink := newSink()
		s := NewShipper(j, sink, ShipperOptions{Logger: log})
		stop := run(t, s)
		sink.set(func(s *memorySink) { s.away = errors.New("dial postgres://u:hunter2secret@db/x: connection refused") })
		mustAppend(t, j, 0, 1000)
		time.Sleep(10 * time.Second) // the bubble's clock
		before := heap()
		const seconds, each = 600, 100
		for i := range seconds {
			mustAppend(t, j, 1000+i*each, 1000+(i+1)*each)
			time.Sleep(time.Second)
		}
		if grown := heap() - before; grown > 1<<20 {
			t.Errorf("the heap grew by %d bytes", grown)
		}
		if inserts, _ := sink.calls(); inserts > 200 {
			t.Errorf("%d tries in ten minutes", inserts)
		}
		if err := j.Ready(); err != nil {
			t.Errorf("requests are refused: %v", err)
		}
		if st := j.Stats(); st.PendingRecords != 61_000 || st.SinkErrors == 0 || st.Refused != 0 {
			t.Errorf("%+v", st)
		}
		sink.set(func(s *memorySink) { s.away = nil })
		time.Sleep(6 * time.Second)
		if sink.count() != 61_000 {
			t.Errorf("%d records of 61000", sink.count())
		}
		if n := strings.Count(lines.String(), "can not be stored"); n != 1 || strings.Contains(lines.String(), "hunter2secret") {
			t.Errorf("logged %d times:\n%s", n, lines)
		}
		stop()
	})
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Until the position is written, a record may be stored twice; the sink does not mind.
func TestACrashAfterTheInsertShipsAgain(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, JournalOptions{})
	mustAppend(t, j, 0, 50)
	sink := newSink()
	s := NewShipper(j, sink, ShipperOptions{BatchRecords: 20})
	if err := errors.Join(s.gather(), s.store(t.Context(), s.batch.records)); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil { // without settle
		t.Fatal(err)
	}
	again, _ := collect(t, dir)
	if sink.count() != 20 || again.count() != 50 {
		t.Errorf("%d, then %d records", sink.count(), again.count())
	}
}

func TestShippingGoesOnWhereItStopped(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, JournalOptions{})
	sink := newSink()
	s := NewShipper(j, sink, ShipperOptions{})
	stop := run(t, s)
	mustAppend(t, j, 0, 50)
	mustFlush(t, s)
	stop()
	mustAppend(t, j, 50, 60)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if again, _ := collect(t, dir); again.count() != 10 {
		t.Errorf("%d records were shipped by the second process, want 10", again.count())
	}
}

func TestAPoisonedRecordIsSetAside(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, JournalOptions{})
	sink := newSink()
	sink.poison = func(r Record) bool { return r.ID == "r13" || r.ID == "r77" }
	s := NewShipper(j, sink, ShipperOptions{})
	mustAppend(t, j, 0, 100)
	j.active.size += int64(len(mustWrite(t, j, frameOf([]byte{codecVersion + 1, 1, 2, 3})))) // and one from the future
	stop := run(t, s)
	mustFlush(t, s)
	stop()
	if inserts, _ := sink.calls(); sink.count() != 98 || inserts > 30 {
		t.Errorf("%d records in %d inserts", sink.count(), inserts)
	}
	if st := j.Stats(); st.Quarantined != 3 || st.PendingBytes != 0 || st.Shipped != 98 {
		t.Errorf("%+v", st)
	}
	data, err := os.ReadFile(filepath.Join(dir, "quarantine.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		var q quarantined
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			t.Fatal(err)
		}
		switch {
		case q.Record != nil && strings.Contains(q.Reason, "does not fit"):
			ids = append(ids, q.Record.ID)
		case bytes.Equal(q.Frame, []byte{codecVersion + 1, 1, 2, 3}) && strings.Contains(q.Reason, "newer version"):
			ids = append(ids, "future")
		}
	}
	if got := strings.Join(ids, " "); got != "future r13 r77" {
		t.Errorf("set aside: %s", got)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if st := open(t, dir, JournalOptions{}).Stats(); st.DiskBytes < int64(len(data)) {
		t.Error("what is set aside does not count towards the size")
	}
}

// mustWrite writes a frame past the encoder.
func mustWrite(t *testing.T, j *Journal, frame []byte) []byte {
	t.Helper()
	if _, err := j.file.Write(frame); err != nil {
		t.Fatal(err)
	}
	return frame
}

// A sink that refuses everything fills the journal, which is noticed; it loses nothing.
func TestASinkThatRefusesEverything(t *testing.T) {
	j := open(t, t.TempDir(), JournalOptions{MaxSize: 64 << 10})
	sink := newSink()
	sink.poison = func(Record) bool { return true }
	s := NewShipper(j, sink, ShipperOptions{})
	run(t, s)
	for i := 0; j.Ready() == nil; i++ {
		mustAppend(t, j, i, i+1)
		mustFlush(t, s)
		if i > 10_000 {
			t.Fatal("the journal never fills")
		}
	}
}

func TestBatchesAreBoundedInBytes(t *testing.T) {
	j := open(t, t.TempDir(), JournalOptions{})
	sink := newSink()
	s := NewShipper(j, sink, ShipperOptions{BatchBytes: 100 << 10})
	for i := range 20 {
		r := number(i)
		r.Content = &Content{Request: make([]byte, MaxContent)}
		if err := j.Append(r); err != nil {
			t.Fatal(err)
		}
	}
	run(t, s)
	mustFlush(t, s)
	if _, largest := sink.calls(); sink.count() != 20 || largest > 2 {
		t.Errorf("%d records, up to %d at once", sink.count(), largest)
	}
}

// A segment that someone deletes under the shipper is a loss that is counted, and no standstill.
func TestASegmentThatDisappears(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, JournalOptions{SegmentSize: 2 << 10})
	mustAppend(t, j, 0, 200)
	if err := os.Remove(segmentsIn(t, dir)[1]); err != nil {
		t.Fatal(err)
	}
	sink := newSink()
	s := NewShipper(j, sink, ShipperOptions{})
	run(t, s)
	mustFlush(t, s)
	if st := j.Stats(); st.Damaged != 1 || st.DamagedBytes < 2000 || st.PendingRecords != 0 || st.PendingBytes != 0 {
		t.Errorf("%+v", st)
	}
	if n := sink.count(); n < 100 || n >= 200 {
		t.Errorf("%d records", n)
	}
}

func BenchmarkShip(b *testing.B) {
	j := open(b, b.TempDir(), JournalOptions{MaxSize: 1 << 40})
	s := NewShipper(j, discard{}, ShipperOptions{})
	run(b, s)
	r := sample()
	for b.Loop() {
		if err := j.Append(r); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
}

type discard struct{}

func (discard) InsertRecords(context.Context, []Record) error { return nil }
