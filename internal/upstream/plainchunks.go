package upstream

import (
	"bytes"
	"errors"
)

// dechunker takes the framing off a chunked body (RFC 9112, section 7.1), in whatever pieces the body
// comes. It works in place, so that a body needs no buffer but its reader's, and one read can bring
// all that has arrived. The zero value is ready.
//
// It refuses everything that net/http refuses: where two readers of a body disagree about its end, one
// request's answer can become another's.
type dechunker struct {
	part    chunkPart
	left    int64  // the size as far as it was read, then the bytes of the chunk that are still to come
	line    int    // bytes of the size line so far
	excess  int64  // framing beyond what chunks of a sensible size would have
	trailer []byte // the line of the trailer so far
	trailed int    // bytes of all its lines
}

// chunkPart is what the next byte of a chunked body belongs to.
type chunkPart uint8

const (
	chunkSize      chunkPart = iota // a hexadecimal number
	chunkBlank                      // blanks behind it
	chunkExtension                  // what follows a semicolon there; nobody asked for it
	chunkSizeEnd                    // the LF of that line
	chunkData
	chunkDataCR
	chunkDataLF
	chunkTrailer
	chunkOver // to what is behind the body
)

const (
	maxSizeLine = 4<<10 - 2
	maxExcess   = 16 << 10
	// maxTrailer bounds what may follow the last chunk of a body, maxTrailerLine each line of it.
	maxTrailer     = 8 << 10
	maxTrailerLine = 4 << 10
)

var (
	errChunk       = errors.New("the chunked encoding is malformed")
	errChunkExcess = errors.New("the chunked encoding has more framing than data")
)

// strip moves the data within b to its front. It returns how much that is, and how many bytes at the
// end of b are behind the body.
func (d *dechunker) strip(b []byte) (n, behind int, err error) {
	i := 0
	for i < len(b) && d.part != chunkOver {
		used := 1
		switch d.part {
		case chunkData:
			used = int(min(int64(len(b)-i), d.left))
			n += copy(b[n:], b[i:i+used])
			if d.left -= int64(used); d.left == 0 {
				d.part = chunkDataCR
			}
		case chunkTrailer:
			used, err = d.skipTrailer(b[i:])
		default:
			err = d.step(b[i])
		}
		if err != nil {
			return n, 0, err
		}
		i += used
	}
	return n, len(b) - i, nil
}

func (d *dechunker) over() bool { return d.part == chunkOver }

// step takes one byte of framing.
func (d *dechunker) step(c byte) error {
	switch {
	case d.part == chunkDataCR && c == '\r':
		d.part = chunkDataLF
	case d.part == chunkDataLF && c == '\n':
		d.part, d.line = chunkSize, 0
	case d.part == chunkSizeEnd && c == '\n':
		return d.begin()
	case d.part > chunkExtension:
		return errChunk
	default:
		return d.sizeLine(c)
	}
	return nil
}

// sizeLine takes a byte of the line before a chunk: SIZE, blanks, ";" and extensions, CRLF.
func (d *dechunker) sizeLine(c byte) error {
	const maxDigits = 15
	digit := hexDigit(c)
	switch {
	case c == '\r' && d.line > 0:
		d.part = chunkSizeEnd
		return nil
	case d.part == chunkSize && digit >= 0 && d.line < maxDigits:
		d.left = d.left<<4 | int64(digit)
	case d.part == chunkExtension && c != '\n' && c != '\r' && d.line < maxSizeLine:
	case d.part == chunkSize && c == ';' && d.line > 0:
		d.part = chunkExtension
	case (c == ' ' || c == '\t') && d.line > 0 && d.line < maxSizeLine:
		d.part = chunkBlank
	default:
		return errChunk
	}
	d.line++
	return nil
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	default:
		return -1
	}
}

// begin ends a size line. Chunks of one byte are tolerated, extensions that outweigh the data are not.
func (d *dechunker) begin() error {
	d.excess = max(0, d.excess+int64(d.line)+2-16-2*d.left)
	d.part = chunkData
	if d.left == 0 {
		d.part = chunkTrailer
	}
	if d.excess > maxExcess {
		return errChunkExcess
	}
	return nil
}

// skipTrailer passes over what it can of the lines behind the last chunk, up to the empty one. Nobody
// asked for trailers, so that they mean nothing.
func (d *dechunker) skipTrailer(b []byte) (used int, err error) {
	line, _, whole := bytes.Cut(b, []byte{'\n'})
	used = len(line)
	if whole {
		used++
	}
	d.trailer = append(d.trailer, b[:used]...)
	if d.trailed += used; d.trailed > maxTrailer || len(d.trailer) > maxTrailerLine {
		return used, badHeadError("its trailer is too long")
	}
	if !whole {
		return used, nil
	}
	text, proper := bytes.CutSuffix(d.trailer, []byte("\r\n"))
	if proper && len(text) == 0 {
		d.part = chunkOver
		return used, nil
	}
	if _, _, ok := field(string(text)); !ok || !proper {
		return used, badHeadError("a line of its trailer is malformed")
	}
	d.trailer = d.trailer[:0]
	return used, nil
}
