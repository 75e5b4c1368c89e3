package openai

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

// MaxEventBytes is how long one line, and all data of one event, may be.
const MaxEventBytes = 16 << 20

// ErrEventTooLong is returned when an event is longer than MaxEventBytes.
var ErrEventTooLong = errors.New("an event of the stream is longer than 16 MiB")

// The sizes of a reader's buffer. A stream that comes slowly has a narrow one: there may be thousands. One
// that comes faster than it is read gets a wide one as long as it does, so that one read takes all that
// has arrived. Only an event that is longer than that needs more.
const (
	narrowBuffer = 4 << 10
	wideBuffer   = 32 << 10
)

var (
	narrowBuffers = sync.Pool{New: func() any { return new([narrowBuffer]byte) }}
	wideBuffers   = sync.Pool{New: func() any { return new([wideBuffer]byte) }}
)

func takeBuffer(size int) []byte {
	switch size {
	case narrowBuffer:
		return narrowBuffers.Get().(*[narrowBuffer]byte)[:]
	case wideBuffer:
		return wideBuffers.Get().(*[wideBuffer]byte)[:]
	default:
		return make([]byte, size)
	}
}

func giveBuffer(b []byte) {
	switch len(b) {
	case narrowBuffer:
		narrowBuffers.Put((*[narrowBuffer]byte)(b))
	case wideBuffer:
		wideBuffers.Put((*[wideBuffer]byte)(b))
	}
}

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
	// got of room bytes came with the last read.
	got, room int
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

// Release gives the reader's memory back. What Next returned is not valid any more, and Next must not be
// called again.
func (s *SSEReader) Release() {
	giveBuffer(s.buf)
	s.buf, s.from, s.to, s.err = nil, 0, 0, io.ErrClosedPipe
}

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
			if s.lines == 0 && s.ends() { // nearly every event: no copy is needed
				return Event{Name: name, Data: value}, nil
			}
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

// ends takes the blank line that ends an event, if it is at hand.
func (s *SSEReader) ends() bool {
	if s.afterCR || s.from == s.to || s.buf[s.from] != '\n' {
		return false
	}
	s.from++
	return true
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
	if s.to-s.from >= MaxEventBytes {
		return ErrEventTooLong
	}
	if size := s.fit(); size == len(s.buf) {
		s.to = copy(s.buf, s.buf[s.from:s.to])
	} else {
		old := s.buf
		s.buf = takeBuffer(size)
		s.to = copy(s.buf, old[s.from:s.to])
		giveBuffer(old)
	}
	s.from = 0
	s.room = len(s.buf) - s.to
	const maxEmptyReads = 100
	for range maxEmptyReads {
		n, err := s.src.Read(s.buf[s.to:])
		s.to += n
		if n > 0 || err != nil {
			s.got = n
			return err
		}
	}
	return io.ErrNoProgress
}

// fit is the size that the buffer should have for the next read.
func (s *SSEReader) fit() int {
	rest, size := s.to-s.from, len(s.buf)
	switch {
	case rest == size: // an event that is longer than the buffer, or the first one
		return min(max(narrowBuffer, 2*size), MaxEventBytes)
	case s.got > s.room/4*3: // a source may take framing out of what it reads: it hardly ever fills all
		return max(size, wideBuffer)
	case s.got < narrowBuffer/2 && rest < narrowBuffer/2:
		return narrowBuffer
	default:
		return size
	}
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
