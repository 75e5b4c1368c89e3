package openai

import (
	"bytes"
	"errors"
	"io"
)

// MaxEventBytes is how long one line, and all data of one event, may be.
const MaxEventBytes = 16 << 20

// ErrEventTooLong is returned when an event is longer than MaxEventBytes.
var ErrEventTooLong = errors.New("an event of the stream is longer than 16 MiB")

// firstBuffer is the size of a reader's buffer until an event needs more: 16 usual chunks.
const firstBuffer = 4 << 10

// Event is one server-sent event.
type Event struct {
	// Name is the event field; empty for the unnamed events of chat streams.
	Name string
	// Data is the data lines joined by LF. It is valid until the next call of Next.
	Data []byte
}

// SSEReader reads server-sent events. Lines end with LF, CRLF or CR; a byte order mark at the start,
// comments, unknown fields and events without data are passed over.
//
// At the end of the stream an event counts if all its lines were complete, even without the blank
// line that should follow: the upstream meant what it wrote. A line that breaks off does not count,
// save for the [DONE] that some engines send without any line end.
//
// bufio.Reader is not used because it can only wait for one given line end: after CR it would wait
// for bytes that a silent upstream sends much later.
type SSEReader struct {
	src io.Reader
	// buf[from:to] is what was read and not yet consumed.
	buf      []byte
	from, to int
	// searched is how far from from no line end was found.
	searched int
	// afterCR says that the last line ended with CR: a LF that follows belongs to it.
	afterCR bool
	// started says that the place of the byte order mark is passed.
	started bool

	data  []byte
	lines int // data lines of the event so far
	name  string
	err   error
}

// NewSSEReader reads events from r.
func NewSSEReader(r io.Reader) *SSEReader { return &SSEReader{src: r} }

// Next returns the next event that has data. At the clean end it returns io.EOF; when the stream
// ends inside a line, io.ErrUnexpectedEOF; else the error of the source. Errors stay.
func (s *SSEReader) Next() (Event, error) {
	s.data, s.lines = s.data[:0], 0
	name := ""
	for {
		line, err := s.line()
		if err != nil {
			if s.lines > 0 {
				return Event{Name: name, Data: s.data}, nil
			}
			return Event{}, err
		}
		if len(line) == 0 {
			if s.lines > 0 {
				return Event{Name: name, Data: s.data}, nil
			}
			name = ""
			continue
		}
		switch field, value := splitField(line); string(field) {
		case "data":
			if err := s.add(value); err != nil {
				return Event{}, err
			}
		case "event":
			if s.name != string(value) { // the same name is not allocated again
				s.name = string(value)
			}
			name = s.name
		}
	}
}

// add appends a data line to the event.
func (s *SSEReader) add(value []byte) error {
	if len(s.data)+len(value) >= MaxEventBytes {
		s.err, s.from = ErrEventTooLong, s.to
		return s.err
	}
	if s.lines > 0 {
		s.data = append(s.data, '\n')
	}
	s.data = append(s.data, value...)
	s.lines++
	return nil
}

// splitField parts a line at its first colon and drops one space behind it. A comment has an empty
// field.
func splitField(line []byte) (field, value []byte) {
	field, value, _ = bytes.Cut(line, []byte(":"))
	if len(value) > 0 && value[0] == ' ' {
		value = value[1:]
	}
	return field, value
}

// line returns the next line without its end, valid until the next read.
func (s *SSEReader) line() ([]byte, error) {
	for {
		line, rest, ok := cutLine(s.buf[s.from:s.to], s.searched)
		if ok {
			s.from, s.searched = s.to-len(rest), 0
			if line = s.trimStart(line); line == nil {
				continue
			}
			s.afterCR = s.buf[s.from-1] == '\r'
			return line, nil
		}
		if s.err != nil {
			return s.lastLine()
		}
		s.searched = s.to - s.from
		s.err = s.fill()
	}
}

// trimStart takes off what does not belong to a line: the LF of a CRLF whose CR ended the line
// before (nil when the line was nothing else), and the byte order mark of the stream.
func (s *SSEReader) trimStart(line []byte) []byte {
	if s.afterCR && len(line) == 0 && s.buf[s.from-1] == '\n' {
		s.afterCR = false
		return nil
	}
	if !s.started {
		s.started = true
		line = bytes.TrimPrefix(line, []byte("\xEF\xBB\xBF"))
	}
	return line
}

// lastLine says what becomes of bytes after the last line end.
func (s *SSEReader) lastLine() ([]byte, error) {
	rest := s.buf[s.from:s.to]
	s.from, s.searched = s.to, 0
	if len(rest) == 0 {
		return nil, s.err
	}
	rest = s.trimStart(rest)
	if field, value := splitField(rest); string(field) == "data" && IsDone(value) {
		return rest, nil
	}
	s.lines = 0
	if errors.Is(s.err, io.EOF) {
		s.err = io.ErrUnexpectedEOF
	}
	return nil, s.err
}

// cutLine finds the first line end in b, of which the first searched bytes have none. CRLF is left
// to the reader, because its LF may not have arrived.
func cutLine(b []byte, searched int) (line, rest []byte, ok bool) {
	end := len(b)
	if i := bytes.IndexByte(b[searched:], '\n'); i >= 0 {
		end = searched + i
	}
	if i := bytes.IndexByte(b[searched:end], '\r'); i >= 0 {
		end = searched + i
	}
	if end == len(b) {
		return nil, nil, false
	}
	return b[:end], b[end+1:], true
}

// fill reads once from the source, after it has made room.
func (s *SSEReader) fill() error {
	switch {
	case s.from == s.to:
		s.from, s.to = 0, 0
	case s.to == len(s.buf) && s.from > 0:
		s.to = copy(s.buf, s.buf[s.from:s.to])
		s.from = 0
	}
	if s.to == len(s.buf) {
		if s.to >= MaxEventBytes {
			return ErrEventTooLong
		}
		bigger := make([]byte, min(max(firstBuffer, 2*len(s.buf)), MaxEventBytes))
		copy(bigger, s.buf)
		s.buf = bigger
	}
	const maxEmptyReads = 100
	for range maxEmptyReads {
		n, err := s.src.Read(s.buf[s.to:])
		s.to += n
		if n > 0 || err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// Buffered is the number of bytes up to the end of the next event, if Next can return it without
// reading from the source, else 0: the next call may wait for the network, so flush before it.
func (s *SSEReader) Buffered() int {
	b := s.buf[s.from:s.to]
	skipLF := s.afterCR
	hasData := false
	for rest := b; ; {
		line, after, ok := cutLine(rest, 0)
		if !ok {
			return 0
		}
		ended := rest[len(line)]
		rest = after
		switch {
		case len(line) == 0 && skipLF && ended == '\n':
		case len(line) == 0 && hasData:
			return len(b) - len(rest)
		default:
			field, _ := splitField(line)
			hasData = hasData || string(field) == "data"
		}
		skipLF = ended == '\r'
	}
}

// AppendEvent appends an unnamed event with the given data, one data line for each line of it.
func AppendEvent(dst, data []byte) []byte {
	for {
		line, rest, more := cutLine(data, 0)
		if !more {
			dst = append(append(dst, "data: "...), data...)
			return append(dst, '\n', '\n')
		}
		if data[len(line)] == '\r' && len(rest) > 0 && rest[0] == '\n' {
			rest = rest[1:]
		}
		dst = append(append(dst, "data: "...), line...)
		dst = append(dst, '\n')
		data = rest
	}
}

// AppendDone appends the event that ends a finished stream.
func AppendDone(dst []byte) []byte { return append(dst, "data: [DONE]\n\n"...) }
