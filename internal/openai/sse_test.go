package openai

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// readAll returns the events of a stream as name=data and the error at its end.
func readAll(r *SSEReader) (events []string, end error) {
	for {
		e, err := r.Next()
		if err != nil {
			return events, err
		}
		events = append(events, e.Name+"="+string(e.Data))
	}
}

func TestSSEReader(t *testing.T) {
	for _, c := range []struct {
		name, stream string
		want         []string
		end          error
	}{
		{"nothing", "", nil, io.EOF},
		{"LF", "data: a\n\ndata: b\n\n", []string{"=a", "=b"}, io.EOF},
		{"CRLF", "data: a\r\n\r\ndata: b\r\n\r\n", []string{"=a", "=b"}, io.EOF},
		{"CR", "data: a\r\rdata: b\r\r", []string{"=a", "=b"}, io.EOF},
		{"mixed", "data: a\r\n\ndata: b\n\rdata: c\r\r\n", []string{"=a", "=b", "=c"}, io.EOF},
		{"byte order mark", "\xEF\xBB\xBFdata: a\n\n", []string{"=a"}, io.EOF},
		{"byte order mark, blank line", "\xEF\xBB\xBF\ndata: a\n\n", []string{"=a"}, io.EOF},
		{"byte order mark later", "\n\xEF\xBB\xBFdata: a\n\ndata: b\n\n", []string{"=b"}, io.EOF},
		{"no space", "data:a\n\ndata:  b\n\n", []string{"=a", "= b"}, io.EOF},
		{"several lines", "data: a\ndata: b\ndata\n\n", []string{"=a\nb\n"}, io.EOF},
		{"empty data", "data:\n\ndata\n\n", []string{"=", "="}, io.EOF},
		{"names", "event: x\ndata: a\n\ndata: b\n\nevent: x\ndata: c\n\nevent: y\n\ndata: d\n\n", []string{"x=a", "=b", "x=c", "=d"}, io.EOF},
		{"comments", ": ping\n\n:\n\n: OPENROUTER PROCESSING\ndata: a\n: x\n\n", []string{"=a"}, io.EOF},
		{"other fields", "id: 5\nretry: 10\nwhat\nDATA: x\ndata: a\n\n", []string{"=a"}, io.EOF},
		{"no blank line at the end", "data: a\n\ndata: b\n", []string{"=a", "=b"}, io.EOF},
		{"no blank line at the end, CR", "data: a\r", []string{"=a"}, io.EOF},
		{"breaks off in a line", "data: a\n\ndata: {\"b\":", []string{"=a"}, io.ErrUnexpectedEOF},
		{"breaks off in a later line", "data: a\n\ndata: b\nda", []string{"=a"}, io.ErrUnexpectedEOF},
		{"breaks off in a comment", "data: a\n\n: pi", []string{"=a"}, io.ErrUnexpectedEOF},
		{"[DONE] without a line end", "data: a\n\ndata: [DONE]", []string{"=a", "=[DONE]"}, io.EOF},
		{"half a [DONE]", "data: a\n\ndata: [DON", []string{"=a"}, io.ErrUnexpectedEOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			for how, r := range map[string]io.Reader{
				"at once":              strings.NewReader(c.stream),
				"byte by byte":         iotest.OneByteReader(strings.NewReader(c.stream)),
				"end with the data":    iotest.DataErrReader(strings.NewReader(c.stream)),
				"nothing in between":   &stutter{strings.NewReader(c.stream), false},
				"a buffer of no bytes": io.MultiReader(strings.NewReader(""), strings.NewReader(c.stream)),
			} {
				s := NewSSEReader(r)
				got, end := readAll(s)
				if diff := cmp.Diff(c.want, got); diff != "" || !errors.Is(end, c.end) {
					t.Errorf("%s: end %v, want %v\n%s", how, end, c.end, diff)
				}
				if _, again := s.Next(); !errors.Is(again, end) {
					t.Errorf("%s: then %v", how, again)
				}
			}
		})
	}
}

// stutter gives no bytes on every second call and one on the others.
type stutter struct {
	r     io.Reader
	quiet bool
}

func (s *stutter) Read(p []byte) (int, error) {
	if s.quiet = !s.quiet; s.quiet {
		return 0, nil
	}
	return s.r.Read(p[:1])
}

func TestSSEReaderGivesWhatCameBeforeACut(t *testing.T) {
	cut := errors.New("connection reset")
	for stream, want := range map[string][]string{
		"data: a\n\ndata: b\n": {"=a", "=b"},
		"data: a\n\ndata: b":   {"=a"},
		"data: a\n\n":          {"=a"},
		"":                     nil,
	} {
		got, end := readAll(NewSSEReader(io.MultiReader(strings.NewReader(stream), iotest.ErrReader(cut))))
		if diff := cmp.Diff(want, got); diff != "" || !errors.Is(end, cut) {
			t.Errorf("%q: end %v\n%s", stream, end, diff)
		}
	}
	if _, end := readAll(NewSSEReader(emptyReader{})); !errors.Is(end, io.ErrNoProgress) {
		t.Errorf("a source that gives nothing: %v", end)
	}
}

type emptyReader struct{}

func (emptyReader) Read([]byte) (int, error) { return 0, nil }

func TestSSEReaderBoundsEvents(t *testing.T) {
	long := strings.Repeat("x", MaxEventBytes-len("data: \n"))
	got, end := readAll(NewSSEReader(strings.NewReader("data: " + long + "\n\n")))
	if len(got) != 1 || len(got[0]) != len(long)+1 || !errors.Is(end, io.EOF) {
		t.Errorf("an event of 16 MiB: %d events, %v", len(got), end)
	}
	for name, stream := range map[string]string{
		"a line":          "data: ok\n\ndata: a\ndata: " + long + "x\n\n",
		"an endless line": "data: ok\n\n: " + long + strings.Repeat("y", 1<<20),
		"many lines":      "data: ok\n\n" + strings.Repeat("data: "+long[:1<<20]+"\n", 16) + strings.Repeat("\ndata: later\n", 1<<18),
	} {
		r := NewSSEReader(strings.NewReader(stream))
		for range 2 { // the error stays
			got, end := readAll(r)
			if strings.Join(got, "") != "=ok" && len(got) > 0 || !errors.Is(end, ErrEventTooLong) {
				t.Errorf("%s: %d events, %v", name, len(got), end)
			}
		}
	}
}

// bursts gives one part for each call.
type bursts struct{ parts []string }

func (b *bursts) Read(p []byte) (int, error) {
	if len(b.parts) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.parts[0])
	b.parts = b.parts[1:]
	return n, nil
}

func TestBufferedSaysWhetherNextWaits(t *testing.T) {
	for _, c := range []struct {
		name, first string
		want        int
	}{
		{"one event", "data: a\n\n", 0},
		{"two events", "data: a\n\ndata: b\n\n", len("data: b\n\n")},
		{"three events", "data: a\n\ndata: b\n\ndata: cc\n\n", len("data: b\n\n")},
		{"half an event", "data: a\n\ndata: b\n", 0},
		{"half a line", "data: a\n\ndata: b", 0},
		{"a comment", "data: a\n\n: ping\n\n", 0},
		{"a name alone", "data: a\n\nevent: x\n\n", 0},
		{"a comment and an event", "data: a\n\n: ping\n\ndata: b\n\nda", len(": ping\n\ndata: b\n\n")},
		{"CRLF", "data: a\r\n\r\ndata: b\r\n\r\n", len("\ndata: b\r\n\r")},
		{"CRLF, one event", "data: a\r\n\r\n", 0},
		{"CRLF, half an event", "data: a\r\n\r\ndata: b\r\n", 0},
		{"CR", "data: a\r\rdata: b\r\r", len("data: b\r\r")},
	} {
		t.Run(c.name, func(t *testing.T) {
			src := &bursts{parts: []string{c.first}}
			r := NewSSEReader(src)
			if r.Buffered() != 0 {
				t.Error("something is buffered before the first read")
			}
			if e, err := r.Next(); err != nil || string(e.Data) != "a" {
				t.Fatal(e, err)
			}
			if got := r.Buffered(); got != c.want {
				t.Errorf("Buffered = %d, want %d", got, c.want)
			}
			src.parts = []string{"\n\ndata: late\n\n"} // what Next gets if it reads
			if e, err := r.Next(); err != nil || c.want > 0 && string(e.Data) != "b" {
				t.Errorf("then %q, %v", e.Data, err)
			}
			if read := len(src.parts) == 0; read == (c.want > 0) {
				t.Errorf("Next read from the source: %v", read)
			}
		})
	}
}

// TestBufferFollowsTheSource has a source that is ahead of its reader, then one that is waited for.
func TestBufferFollowsTheSource(t *testing.T) {
	event := "data: " + strings.Repeat("x", 300) + "\n\n"
	src := &flood{text: strings.Repeat(event, 1000)}
	r := NewSSEReader(src)
	for range 200 {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if src.widest < wideBuffer-len(event) {
		t.Errorf("a source that has much was asked for %d bytes at most", src.widest)
	}
	for {
		src.most = len(event) // from now on it comes event by event
		if _, err := r.Next(); err != nil {
			break
		}
	}
	if len(r.buf) != narrowBuffer {
		t.Errorf("a slow source keeps a buffer of %d bytes", len(r.buf))
	}
	r.Release()
	if _, err := r.Next(); err == nil || r.buf != nil {
		t.Errorf("after Release: %v, %d bytes", err, len(r.buf))
	}
}

// flood gives as much as it is asked for, up to most if that is set.
type flood struct {
	text         string
	most, widest int
}

func (f *flood) Read(p []byte) (int, error) {
	if f.widest = max(f.widest, len(p)); f.most > 0 {
		p = p[:min(len(p), f.most)]
	}
	n := copy(p, f.text)
	if f.text = f.text[n:]; n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func TestAppendEventRoundTrip(t *testing.T) {
	var stream []byte
	texts := []string{`{"a":1}`, "", "two\nlines", "a\r\nb\rc", "end\n", "\n\n"}
	want := []string{`={"a":1}`, "=", "=two\nlines", "=a\nb\nc", "=end\n", "=\n\n", "=[DONE]"}
	for _, text := range texts {
		stream = AppendEvent(stream, []byte(text))
	}
	stream = AppendDone(stream)
	got, end := readAll(NewSSEReader(bytes.NewReader(stream)))
	if diff := cmp.Diff(want, got); diff != "" || !errors.Is(end, io.EOF) {
		t.Errorf("%v\n%s", end, diff)
	}
	if string(AppendEvent(nil, []byte("x"))) != "data: x\n\n" {
		t.Errorf("%q", AppendEvent(nil, []byte("x")))
	}
}

func TestSSEReaderAllocatesOnlyItsBuffers(t *testing.T) {
	stream := bytes.Repeat([]byte("event: delta\ndata: "+usualChunk+"\n\n"), 1000)
	if n := testing.AllocsPerRun(10, func() {
		r := NewSSEReader(bytes.NewReader(stream))
		for {
			if _, err := r.Next(); err != nil {
				break
			}
		}
	}); n > 8 {
		t.Errorf("%v allocations for 1000 events", n)
	}
}

func BenchmarkSSEReader(b *testing.B) {
	for _, end := range []string{"\n", "\r\n"} {
		b.Run(fmt.Sprintf("%q", end), func(b *testing.B) {
			stream := bytes.Repeat([]byte("data: "+usualChunk+end+end), 1000)
			b.SetBytes(int64(len(stream)))
			b.ReportAllocs()
			for b.Loop() {
				r := NewSSEReader(bytes.NewReader(stream))
				for {
					if _, err := r.Next(); err != nil {
						break
					}
					r.Buffered()
				}
			}
		})
	}
}

// BenchmarkRelay is all that this package does for a chunk: read, parse, observe, edit, write.
func BenchmarkRelay(b *testing.B) {
	const chunks = 1000
	stream := bytes.Repeat([]byte("data: "+usualChunk+"\n\n"), chunks)
	dst := make([]byte, 0, 4096)
	var c Chunk
	b.ReportAllocs()
	for b.Loop() {
		r := NewSSEReader(bytes.NewReader(stream))
		s := StreamEditor{ID: "chatcmpl-0123456789abcdef", Model: "llama-3.3-70b"}
		var p Progress
		for {
			e, err := r.Next()
			if err != nil {
				break
			}
			if err := ParseChunk(e.Data, &c); err != nil {
				b.Fatal(err)
			}
			p.Observe(&c)
			dst = AppendEvent(dst[:0], s.AppendChunk(dst[2048:2048], &c))
			r.Buffered()
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/chunks, "ns/chunk")
}

// naiveEvents is what the reader promises, said with string functions.
func naiveEvents(stream string) (events []string, end error) {
	stream = strings.TrimPrefix(stream, "\xEF\xBB\xBF")
	stream = strings.ReplaceAll(strings.ReplaceAll(stream, "\r\n", "\n"), "\r", "\n")
	lines := strings.Split(stream, "\n")
	last := lines[len(lines)-1]
	lines = lines[:len(lines)-1]
	end = io.EOF
	torn := last != ""
	if value, ok := strings.CutPrefix(last, "data:"); ok && strings.TrimSpace(value) == "[DONE]" {
		lines, torn = append(lines, last), false
	}
	var data []string
	name := ""
	flush := func() {
		if len(data) > 0 {
			events = append(events, name+"="+strings.Join(data, "\n"))
		}
		data, name = nil, ""
	}
	for _, line := range lines {
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			flush()
		case field == "data":
			data = append(data, value)
		case field == "event":
			name = value
		}
	}
	if torn {
		return events, io.ErrUnexpectedEOF
	}
	flush()
	return events, end
}

// cutReader gives as many bytes at a time as the next byte of cuts says.
type cutReader struct {
	r    io.Reader
	cuts []byte
	next int
}

func (c *cutReader) Read(p []byte) (int, error) {
	n := len(p)
	if len(c.cuts) > 0 {
		n = min(n, 1+int(c.cuts[c.next%len(c.cuts)]))
		c.next++
	}
	return c.r.Read(p[:n])
}

func FuzzSSEReader(f *testing.F) {
	for _, seed := range []string{
		"data: a\n\ndata: b\r\n\r\ndata: c\r\r", "\xEF\xBB\xBFevent: x\ndata: y\ndata: z\n\n", ": c\n\ndata:[DONE]", "data: x\ndat",
		"data: " + usualChunk + "\n\ndata: [DONE]\n\n", "\r\n\r\r\n\n", "event:a\n\ndata\n\n",
	} {
		f.Add([]byte(seed), []byte{0})
		f.Add([]byte(seed), []byte{3, 1, 7})
	}
	f.Fuzz(func(t *testing.T, stream, cuts []byte) {
		want, wantEnd := naiveEvents(string(stream))
		for how, r := range map[string]io.Reader{
			"whole": bytes.NewReader(stream),
			"cut":   &cutReader{r: bytes.NewReader(stream), cuts: cuts},
			"bytes": iotest.OneByteReader(bytes.NewReader(stream)),
		} {
			s := NewSSEReader(r)
			var got []string
			for {
				ready := s.Buffered()
				before := s.to - s.from
				e, err := s.Next()
				if err != nil {
					if !errors.Is(err, wantEnd) || ready > 0 {
						t.Fatalf("%s: %q ended with %v, want %v; buffered %d", how, stream, err, wantEnd, ready)
					}
					break
				}
				if ready > 0 && before-(s.to-s.from) != ready {
					t.Fatalf("%s: %q: buffered %d, but Next took %d", how, stream, ready, before-(s.to-s.from))
				}
				got = append(got, e.Name+"="+string(e.Data))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%s: %q\n%s", how, stream, diff)
			}
		}
	})
}
