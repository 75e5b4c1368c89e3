package usage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// cursor reads a journal's records in order, across segments. One goroutine owns it.
type cursor struct {
	journal *Journal
	at      position
	segment segment // as it was last seen; meaningful while file is not nil
	file    *os.File
	frames  frameReader
}

// next returns the payload of the next record, valid until the following call. io.EOF says that there
// is no more for now. Damage is counted, logged and stepped over; any other error comes from the disk
// and the call may be repeated.
func (c *cursor) next() ([]byte, error) {
	for {
		if err := c.enter(); err != nil {
			return nil, err
		}
		payload, err := c.frames.next()
		if err == nil {
			c.at.offset = c.frames.offset
			return payload, nil
		}
		if err := c.step(err); err != nil {
			return nil, err
		}
	}
}

// enter makes sure that there is something to read at the cursor, or returns io.EOF.
func (c *cursor) enter() error {
	for c.file == nil || c.frames.offset >= c.frames.limit {
		s, ok := c.journal.segmentFrom(c.at.segment)
		if !ok {
			c.leave()
			return io.EOF
		}
		if s.number != c.at.segment {
			c.leave()
			c.at = position{segment: s.number}
		}
		if c.at.offset >= s.size {
			if !s.sealed {
				return io.EOF
			}
			c.leave()
			c.at = position{segment: s.number + 1}
			continue
		}
		if c.file == nil {
			file, err := os.Open(s.path)
			if errors.Is(err, fs.ErrNotExist) {
				c.damaged(s.size-c.at.offset, "a segment of the usage journal has disappeared", s.path)
				c.at = position{segment: s.number + 1}
				continue
			}
			if err != nil {
				return err
			}
			c.file = file
			c.frames = frameReader{src: file, offset: c.at.offset, window: c.frames.window[:0]}
		}
		c.segment, c.frames.limit = s, s.size
	}
	return nil
}

// leave closes the segment under the cursor.
func (c *cursor) leave() {
	if c.file != nil {
		_ = c.file.Close() // it was only read
		c.file = nil
	}
}

// step gets over what the frame reader could not read. It returns the errors that are not damage.
func (c *cursor) step(err error) error {
	rest := c.frames.limit - c.at.offset
	switch {
	case errors.Is(err, errPayload):
		c.damaged(c.frames.offset-c.at.offset, "a record of the usage journal is damaged and lost", c.segment.path)
		c.at.offset = c.frames.offset
		return nil
	case errors.Is(err, errTorn):
		c.journal.note(func(s *Stats) { s.Torn++ })
		c.journal.log.Info("a process ended in the middle of a write; the unfinished usage record is skipped",
			"segment", c.segment.path, "offset", c.at.offset, "bytes", rest)
	case errors.Is(err, errUnfounded):
		if err := c.setAside(); err != nil {
			return err
		}
		c.damaged(rest, "the rest of a segment of the usage journal is damaged; it was set aside in a .damaged file", c.segment.path)
	default:
		c.leave() // and begin again with a fresh descriptor
		return fmt.Errorf("read the usage journal: %w", err)
	}
	c.at.offset, c.frames.offset = c.frames.limit, c.frames.limit
	return nil
}

// setAside copies what is left of the segment, so that deleting the segment destroys no evidence.
func (c *cursor) setAside() error {
	path := filepath.Join(c.journal.dir, fmt.Sprintf("%020d.damaged", c.segment.number))
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(out, io.NewSectionReader(c.file, c.at.offset, c.frames.limit-c.at.offset))
	c.journal.grow(n)
	return errors.Join(err, out.Close())
}

func (c *cursor) damaged(bytes int64, what, path string) {
	c.journal.note(func(s *Stats) { s.Damaged++; s.DamagedBytes += bytes })
	c.journal.log.Error(what, "segment", path, "offset", c.at.offset, "bytes", bytes)
}
