package usage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A journal's directory holds
//
//	NUMBER.journal   the segments, numbered upwards, in 20 digits
//	position         how far they are shipped: "NUMBER OFFSET\n", replaced by renaming
//	quarantine.jsonl records that the sink will never take, for people to look at
//	NUMBER.damaged   what could not be read of a segment, likewise
//	lock             held by the process
//
// A segment is written by one process only. Its number is never used again, not even after a loss of
// power that took the segment and left the position: see restore.

const segmentSuffix = ".journal"

// segment is a file of frames. Its size counts whole frames only.
type segment struct {
	number uint64
	path   string
	size   int64
	sealed bool
	since  time.Time
}

// position is a place in the sequence of all segments: everything before it is stored.
type position struct {
	segment uint64
	offset  int64
}

func (p position) before(q position) bool {
	return p.segment < q.segment || p.segment == q.segment && p.offset < q.offset
}

// disk is the part of the file system that the journal writes through.
type disk interface {
	// create makes a new file that is written at its end only.
	create(path string) (segmentFile, error)
	// sync brings a file, and the fact that it exists, to the platter.
	sync(path string) error
}

// segmentFile is an open segment.
type segmentFile interface {
	io.WriteCloser
	Truncate(size int64) error
}

type localDisk struct{}

func (localDisk) create(path string) (segmentFile, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
}

func (localDisk) sync(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func segmentName(number uint64) string { return fmt.Sprintf("%020d%s", number, segmentSuffix) }

// restore finds what earlier processes left. Nothing is read but names and sizes, so that a large
// journal does not delay the start.
func (j *Journal) restore() error {
	entries, err := os.ReadDir(j.dir)
	if err != nil {
		return err
	}
	j.shipped = readPosition(j.dir)
	j.next = j.shipped.segment
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if name, ok := strings.CutSuffix(entry.Name(), segmentSuffix); ok {
			number, err := strconv.ParseUint(name, 10, 63)
			if err != nil || segmentName(number) != entry.Name() {
				return fmt.Errorf("%s is not a segment's name; move it out of the directory", entry.Name())
			}
			j.segments = append(j.segments, &segment{
				number: number, path: filepath.Join(j.dir, entry.Name()), size: info.Size(), sealed: true,
			})
			j.next = max(j.next, number)
		}
		j.used += info.Size()
	}
	slices.SortFunc(j.segments, func(a, b *segment) int {
		if a.number < b.number {
			return -1
		}
		return 1
	})
	j.next++
	j.firstOwn = j.next
	if n := j.pendingBytes(); n > 0 {
		j.log.Info("usage records of an earlier process will be shipped", "bytes", n)
		signal(j.wake)
	}
	j.removeShipped()
	j.judge()
	return nil
}

// write appends a frame to the active segment, and begins one if there is none. The caller has the
// lock. A frame that was written in part is taken back; where that fails too, the segment ends with
// it, and a later process will find it torn.
func (j *Journal) write(frame []byte) error {
	if j.active == nil {
		s := &segment{number: j.next, path: filepath.Join(j.dir, segmentName(j.next)), since: time.Now()}
		file, err := j.disk.create(s.path)
		if err != nil {
			return err
		}
		j.next++
		j.active, j.file = s, file
		j.segments = append(j.segments, s)
		j.unsynced = append(j.unsynced, s.path)
	} else if len(j.unsynced) == 0 {
		j.unsynced = append(j.unsynced, j.active.path)
	}
	signal(j.unsaved)
	n, err := j.file.Write(frame)
	if err != nil {
		if n > 0 && j.file.Truncate(j.active.size) != nil {
			j.used += int64(n)
			j.seal()
		}
		return err
	}
	j.active.size += int64(n)
	j.used += int64(n)
	if j.active.size >= j.options.SegmentSize {
		j.seal()
	}
	return nil
}

// seal ends the active segment. The caller has the lock.
func (j *Journal) seal() {
	if j.active == nil {
		return
	}
	if err := j.file.Close(); err != nil {
		j.writeFailed(err)
	}
	j.active.sealed = true
	j.active, j.file = nil, nil
}

// sync brings every segment that was written since the last time to the platter. It goes by path, so
// that no file is kept open, and no lock held, while the disk works.
func (j *Journal) sync() error {
	j.mu.Lock()
	paths := j.unsynced
	j.unsynced = nil
	j.mu.Unlock()
	var failed error
	for _, path := range paths {
		if err := j.disk.sync(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // shipped and gone
			failed = errors.Join(failed, err)
		}
	}
	if failed == nil && len(paths) > 0 {
		failed = syncDirectory(j.dir)
	}
	if failed != nil {
		j.mu.Lock()
		j.stats.WriteErrors++
		j.mu.Unlock()
		j.log.Error("the usage journal could not be brought to disk; a loss of power may cost its last records", "error", failed)
	}
	return failed
}

// end is the place behind the last frame on disk. The caller has the lock.
func (j *Journal) end() position {
	if len(j.segments) == 0 {
		return j.shipped
	}
	last := j.segments[len(j.segments)-1]
	return position{last.number, last.size}
}

// segmentFrom returns a copy of the first segment with this number or a higher one.
func (j *Journal) segmentFrom(number uint64) (segment, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range j.segments {
		if s.number >= number {
			return *s, true
		}
	}
	return segment{}, false
}

// stored notes that everything before p is stored or set aside, count records of this process among
// it, and removes the segments that are done with.
func (j *Journal) stored(p position, count int64) {
	j.mu.Lock()
	j.shipped = p
	j.stats.PendingRecords -= count
	if len(j.backlog) == 0 && j.pendingBytes() == 0 {
		j.stats.PendingRecords = 0 // what was damaged on the way was never counted down
	}
	j.broadcast()
	j.mu.Unlock()
	j.removeShipped()
}

// removeShipped deletes the segments of which everything is stored.
func (j *Journal) removeShipped() {
	j.mu.Lock()
	var done []*segment
	j.segments = slices.DeleteFunc(j.segments, func(s *segment) bool {
		if !s.sealed || j.shipped.before(position{s.number, s.size}) {
			return false
		}
		done = append(done, s)
		return true
	})
	j.mu.Unlock()
	for _, s := range done {
		freed := s.size
		if info, err := os.Stat(s.path); err == nil {
			freed = info.Size() // with what was torn
		}
		if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			j.log.Error("a segment of the usage journal can not be removed", "error", err)
			continue // the next process tries again
		}
		j.grow(-freed)
	}
}

// grow notes that the directory has become larger or smaller.
func (j *Journal) grow(bytes int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.used += bytes
	j.judge()
}

func readPosition(dir string) position {
	var p position
	text, err := os.ReadFile(filepath.Join(dir, "position"))
	if err != nil {
		return position{}
	}
	if _, err := fmt.Sscanf(string(text), "%d %d\n", &p.segment, &p.offset); err != nil || p.offset < 0 {
		return position{} // damaged: ship everything that is there once more
	}
	return p
}

func writePosition(dir string, p position) error {
	path := filepath.Join(dir, "position")
	text := fmt.Appendf(nil, "%d %d\n", p.segment, p.offset)
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// syncDirectory makes new names in a directory survive a loss of power. Windows has no such call.
func syncDirectory(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
