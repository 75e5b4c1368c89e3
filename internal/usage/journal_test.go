package usage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"shareai/internal/fault"
)

func segmentsIn(t testing.TB, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestTheJournalOutlivesTheProcess(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, JournalOptions{})
	mustAppend(t, j, 0, 1000)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	sink, stats := collect(t, dir)
	if sink.count() != 1000 || stats.Shipped != 1000 || stats.PendingBytes != 0 {
		t.Errorf("%d records, %+v", sink.count(), stats)
	}
	if sink.records["r7"].Cost != 7 {
		t.Error("a record changed on its way")
	}
	if left := segmentsIn(t, dir); len(left) != 0 {
		t.Errorf("segments left behind: %v", left)
	}
}

func TestSegmentsAreRotatedAndRemoved(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, JournalOptions{SegmentSize: 4 << 10})
	mustAppend(t, j, 0, 1000)
	if n := len(segmentsIn(t, dir)); n < 8 {
		t.Fatalf("only %d segments", n)
	}
	sink := newSink()
	s := NewShipper(j, sink, ShipperOptions{BatchRecords: 37})
	run(t, s)
	mustFlush(t, s)
	if _, largest := sink.calls(); sink.count() != 1000 || largest > 37 {
		t.Errorf("%d records, batches of up to %d", sink.count(), largest)
	}
	if n := len(segmentsIn(t, dir)); n > 1 {
		t.Errorf("%d segments are left", n)
	}
	if st := j.Stats(); st.PendingRecords != 0 || st.PendingBytes != 0 || st.DiskBytes > 8<<10 {
		t.Errorf("%+v", st)
	}
}

func TestSegmentsAreRotatedByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		j := open(t, dir, JournalOptions{SegmentAge: time.Minute})
		for i := range 3 {
			mustAppend(t, j, i, i+1)
			time.Sleep(2 * time.Minute) // the bubble's clock
		}
		mustAppend(t, j, 3, 4)
		time.Sleep(2 * time.Second)
		if n := len(segmentsIn(t, dir)); n != 2 {
			t.Errorf("%d segments, want those of minutes 0 to 2 and 2 to 6", n)
		}
	})
}

// A number is not used again, even if a loss of power took the segment and left the position.
func TestNumbersAreNotUsedAgain(t *testing.T) {
	dir := t.TempDir()
	if err := writePosition(dir, position{7, 1_000_000}); err != nil {
		t.Fatal(err)
	}
	j := open(t, dir, JournalOptions{})
	mustAppend(t, j, 0, 1)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if sink, _ := collect(t, dir); sink.count() != 1 {
		t.Error("a record in a segment with a used number was taken for shipped")
	}
}

func TestADamagedPositionShipsAgain(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, JournalOptions{})
	mustAppend(t, j, 0, 10)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "x", "1 -5\n", "99999999999999999999999 0\n", "1"} {
		if err := os.WriteFile(filepath.Join(dir, "position"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if p := readPosition(dir); p != (position{}) {
			t.Errorf("%q is read as %v", text, p)
		}
	}
	if sink, _ := collect(t, dir); sink.count() != 10 {
		t.Errorf("%d records", sink.count())
	}
}

func TestAForeignFileNameIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "7.journal"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenJournal(dir, JournalOptions{}); err == nil || !strings.Contains(err.Error(), "7.journal") {
		t.Errorf("error: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "7.journal")); err != nil {
		t.Fatal(err)
	}
	open(t, dir, JournalOptions{}) // the lock was given back
}

func TestAFullJournalStopsTheGatewayBeforeTheRequest(t *testing.T) {
	j := open(t, t.TempDir(), JournalOptions{MaxSize: 64 << 10, SegmentSize: 8 << 10})
	n := 0
	for j.Ready() == nil {
		mustAppend(t, j, n, n+1)
		n++
	}
	err := j.Ready()
	if !errors.Is(err, ErrJournalFull) || fault.From(err).HTTPStatus() != 503 || fault.From(err).RetryAfter == 0 {
		t.Fatalf("not ready: %v", err)
	}
	inFlight := 0
	for ; ; inFlight++ { // what was let in before is still recorded
		if err = j.Append(number(n + inFlight)); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrJournalFull) || inFlight < 20 {
		t.Fatalf("%d more records, then %v", inFlight, err)
	}
	if st := j.Stats(); st.DiskBytes > 64<<10 || st.Refused != 1 {
		t.Errorf("%+v", st)
	}
	sink := newSink()
	s := NewShipper(j, sink, ShipperOptions{})
	run(t, s)
	mustFlush(t, s)
	if err := j.Ready(); err != nil {
		t.Errorf("empty again, and still: %v", err)
	}
	mustAppend(t, j, 100_000, 100_001)
	mustFlush(t, s)
	if sink.count() != n+inFlight+1 {
		t.Errorf("%d records of %d", sink.count(), n+inFlight+1)
	}
}

// With everything in one active segment, a full journal must get free again too.
func TestAFullJournalOfOneSegmentGetsFree(t *testing.T) {
	j := open(t, t.TempDir(), JournalOptions{MaxSize: 32 << 10, SegmentSize: 1 << 30})
	s := NewShipper(j, newSink(), ShipperOptions{})
	run(t, s)
	for i := range 5000 {
		if j.Ready() != nil {
			mustFlush(t, s)
		}
		mustAppend(t, j, i, i+1)
	}
}

func TestTwoProcessesCanNotShareADirectory(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, JournalOptions{})
	_, err := OpenJournal(dir, JournalOptions{})
	if !errors.Is(err, ErrJournalLocked) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "data directory of its own") {
		t.Fatalf("error: %v", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dir, JournalOptions{})
}

func TestConcurrentAppends(t *testing.T) {
	const workers, each = 8, 500
	dir := t.TempDir()
	j := open(t, dir, JournalOptions{SegmentSize: 16 << 10})
	sink := newSink()
	s := NewShipper(j, sink, ShipperOptions{BatchRecords: 50, BatchWait: time.Millisecond})
	stop := run(t, s)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() { mustAppend(t, j, w*each, (w+1)*each) })
	}
	for range 20 {
		mustFlush(t, s)
	}
	wg.Wait()
	mustFlush(t, s)
	if sink.count() != workers*each {
		t.Errorf("%d records of %d", sink.count(), workers*each)
	}
	if st := j.Stats(); st.PendingRecords != 0 || st.Appended != workers*each || st.Shipped != workers*each {
		t.Errorf("%+v", st)
	}
	stop()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := j.Append(number(0)); !errors.Is(err, ErrJournalClosed) || !errors.Is(j.Ready(), ErrJournalClosed) {
		t.Errorf("after closing: %v, %v", err, j.Ready())
	}
	if err := j.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
}

func TestADiskThatRefusesWrites(t *testing.T) {
	for _, c := range []struct {
		name    string
		segment int64
		hurt    func(*faultyDisk)
	}{
		{"at once", 0, func(*faultyDisk) {}},
		{"a new segment", 1, func(*faultyDisk) {}},
		{"after a part", 0, func(d *faultyDisk) { d.partial = 5 }},
		{"after a part that can not be taken back", 0, func(d *faultyDisk) { d.partial, d.noRepair = 5, true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir, d := t.TempDir(), &faultyDisk{}
				log, lines := logTo()
				j := openOn(t, dir, JournalOptions{SegmentSize: c.segment, BacklogRecords: 100, Logger: log}, d)
				sink := newSink()
				s := NewShipper(j, sink, ShipperOptions{})
				stop := run(t, s)
				mustAppend(t, j, 0, 10)
				d.set(func(d *faultyDisk) { d.refuse = syscall.ENOSPC; c.hurt(d) })
				mustAppend(t, j, 10, 110)
				if st := j.Stats(); st.BacklogRecords != 100 || st.WriteErrors == 0 {
					t.Errorf("%+v", st)
				}
				if !errors.Is(j.Ready(), ErrJournalBroken) {
					t.Errorf("ready: %v", j.Ready())
				}
				if err := j.Append(number(0)); !errors.Is(err, ErrJournalBroken) || fault.From(err).HTTPStatus() != 503 {
					t.Errorf("a full backlog: %v", err)
				}
				time.Sleep(time.Minute) // the bubble's clock: the disk is tried again and again
				if n := strings.Count(lines.String(), "records are kept in memory"); n != 1 {
					t.Errorf("the failure was logged %d times", n)
				}
				d.set(func(d *faultyDisk) { d.refuse = nil })
				time.Sleep(2 * time.Second)
				if err := j.Ready(); err != nil {
					t.Errorf("the disk is back: %v", err)
				}
				mustAppend(t, j, 110, 120)
				mustFlush(t, s)
				if sink.count() != 120 {
					t.Errorf("%d records of 120", sink.count())
				}
				if st := j.Stats(); st.Refused != 1 || st.BacklogRecords != 0 || st.Lost+st.Damaged != 0 || st.PendingRecords != 0 {
					t.Errorf("%+v", st)
				}
				stop()
			})
		})
	}
}

// A busy journal does not wait for its next round to try the disk again.
func TestAnAppendTriesTheDiskAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &faultyDisk{}
		j := openOn(t, t.TempDir(), JournalOptions{SyncInterval: time.Hour}, d)
		mustAppend(t, j, 0, 1)
		d.set(func(d *faultyDisk) { d.refuse = syscall.EIO })
		mustAppend(t, j, 1, 10)
		if n := j.Stats().WriteErrors; n != 1 {
			t.Errorf("%d writes were tried at once", n)
		}
		d.set(func(d *faultyDisk) { d.refuse = nil })
		time.Sleep(retryWrite) // the bubble's clock
		mustAppend(t, j, 10, 11)
		if st := j.Stats(); st.BacklogRecords != 0 {
			t.Errorf("%d records are still in memory", st.BacklogRecords)
		}
	})
}

// What a failed write left behind and could not take back is torn, for the next process too.
func TestTheRestOfAFailedWriteIsSkippedLater(t *testing.T) {
	dir, d := t.TempDir(), &faultyDisk{}
	j := openOn(t, dir, JournalOptions{}, d)
	mustAppend(t, j, 0, 10)
	d.set(func(d *faultyDisk) { d.refuse, d.partial, d.noRepair = syscall.EIO, 12, true })
	mustAppend(t, j, 10, 11)
	d.set(func(d *faultyDisk) { d.refuse = nil })
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	sink, st := collect(t, dir)
	if sink.count() != 11 || st.Torn != 1 || st.Damaged != 0 {
		t.Errorf("%d records, %+v", sink.count(), st)
	}
}

func TestClosingSaysWhatWasLost(t *testing.T) {
	d := &faultyDisk{}
	j := openOn(t, t.TempDir(), JournalOptions{}, d)
	d.set(func(d *faultyDisk) { d.refuse = syscall.ENOSPC })
	mustAppend(t, j, 0, 3)
	if err := j.Close(); err == nil || !strings.Contains(err.Error(), "3 records") || j.Stats().Lost != 3 {
		t.Errorf("%v, %+v", err, j.Stats())
	}
}

// A crash in the middle of a write costs nothing that was acknowledged, wherever the write stopped.
func TestATornSegmentAtEveryOffset(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, JournalOptions{})
	mustAppend(t, j, 0, 4)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(segmentsIn(t, dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	last := len(whole) / 4 * 3
	for n := last; n < len(whole); n++ {
		crashed := t.TempDir()
		if err := os.WriteFile(filepath.Join(crashed, segmentName(1)), whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		sink, st := collect(t, crashed)
		if torn := st.Torn == 1; sink.count() != 3 || torn != (n > last) || st.Damaged != 0 {
			t.Fatalf("cut at %d: %d records, %+v", n, sink.count(), st)
		}
	}
}

func TestDamageInTheMiddle(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, JournalOptions{SegmentSize: 2 << 10})
	mustAppend(t, j, 0, 200)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	paths := segmentsIn(t, dir)
	hurt := func(path string, offset int64) int64 {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[offset] ^= 0xff
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return int64(len(data))
	}
	hurt(paths[0], headerSize+3)                // a payload: one record
	rest := hurt(paths[1], 0)                   // a header: the segment
	if err := os.Remove(paths[2]); err != nil { // and one is gone before the journal is opened
		t.Fatal(err)
	}
	sink, st := collect(t, dir)
	if st.Damaged != 2 || st.Torn != 0 {
		t.Errorf("%+v", st)
	}
	if ids := sink.ids(); ids["r0"] || !ids["r1"] || !ids["r199"] {
		t.Error("the wrong records were lost")
	}
	aside, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%020d.damaged", 2)))
	if err != nil || int64(len(aside)) != rest {
		t.Errorf("set aside: %d of %d bytes, %v", len(aside), rest, err)
	}
}

func BenchmarkAppend(b *testing.B) {
	j := open(b, b.TempDir(), JournalOptions{MaxSize: 1 << 40})
	r := sample()
	b.ReportAllocs()
	for b.Loop() {
		if err := j.Append(r); err != nil {
			b.Fatal(err)
		}
		if j.active == nil { // keep the disk small
			j.stored(j.end(), 0)
		}
	}
}

func BenchmarkAppendParallel(b *testing.B) {
	j := open(b, b.TempDir(), JournalOptions{MaxSize: 1 << 40})
	r := sample()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := j.Append(r); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkReady(b *testing.B) {
	j := open(b, b.TempDir(), JournalOptions{})
	for b.Loop() {
		if err := j.Ready(); err != nil {
			b.Fatal(err)
		}
	}
}
