package openai

import "io"

// Body is a request body made of parts: the untouched ones are the client's own bytes. It may be
// read any number of times, also concurrently. The zero value is empty.
type Body struct {
	parts [][]byte
	size  int64
}

// NewBody is a body of one part, which must not change afterwards.
func NewBody(b []byte) Body { return Body{parts: [][]byte{b}, size: int64(len(b))} }

// Len is the number of bytes.
func (b Body) Len() int64 { return b.size }

// Bytes is a copy in one piece.
func (b Body) Bytes() []byte {
	whole := make([]byte, 0, b.size)
	for _, part := range b.parts {
		whole = append(whole, part...)
	}
	return whole
}

// Reader reads the body from its beginning without copying it first. Close does nothing. The reader
// is an io.WriterTo as well.
func (b Body) Reader() io.ReadCloser { return &bodyReader{rest: b.parts} }

// WriteTo writes the body to w, part by part.
func (b Body) WriteTo(w io.Writer) (int64, error) {
	return (&bodyReader{rest: b.parts}).WriteTo(w)
}

type bodyReader struct {
	rest [][]byte
	// off is how much of the first part is read.
	off int
}

func (r *bodyReader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) && len(r.rest) > 0 {
		got := copy(p[n:], r.rest[0][r.off:])
		n += got
		r.advance(got)
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (r *bodyReader) WriteTo(w io.Writer) (int64, error) {
	var written int64
	for len(r.rest) > 0 {
		n, err := w.Write(r.rest[0][r.off:])
		written += int64(n)
		r.advance(n)
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

func (r *bodyReader) advance(n int) {
	if r.off += n; r.off == len(r.rest[0]) {
		r.rest, r.off = r.rest[1:], 0
	}
}

func (r *bodyReader) Close() error { return nil }

// pieces collects the parts of a body while it goes through a text from left to right.
type pieces struct {
	src []byte
	// from is the position up to which src is kept, replaced or left out.
	from  int
	parts [][]byte
	size  int64
}

// keep takes src up to a position as it is.
func (p *pieces) keep(to int) {
	if to > p.from {
		p.put(p.src[p.from:to:to])
		p.from = to
	}
}

// put adds text that is not in src.
func (p *pieces) put(text []byte) {
	if len(text) > 0 {
		p.parts = append(p.parts, text)
		p.size += int64(len(text))
	}
}

// replace puts text in the place of src[start:end].
func (p *pieces) replace(start, end int, text []byte) {
	p.keep(start)
	p.put(text)
	p.from = end
}
