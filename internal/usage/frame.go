package usage

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

// A segment is a sequence of frames and nothing else. A frame is a header of ten bytes and a payload:
//
//	0  payload length, 4 bytes, little-endian, at most maxPayload
//	4  check of the length: the low 16 bits of its CRC-32C, inverted
//	6  CRC-32C of the payload
//
// The length has a check of its own so that two kinds of damage can be told apart. Where the length
// holds, a frame that goes beyond the end of the segment was torn by a crash in the middle of a write
// (its Append never returned), and a payload whose CRC is wrong costs one record, because the next
// frame's place is known. Where the length does not hold, the rest of the segment is set aside: to
// search it for the next frame would mean trusting bytes that a client may have chosen, for a record
// can contain the client's own words.
const (
	headerSize = 10
	maxPayload = 1 << 20 // bytes; more than a record with full content needs
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	errTorn      = errors.New("the last frame is unfinished")
	errPayload   = errors.New("a frame's payload does not match its checksum")
	errUnfounded = errors.New("a frame's header is damaged")
)

func lengthCheck(length []byte) uint16 { return ^uint16(crc32.Checksum(length, castagnoli)) }

// beginFrame makes room for a header; the payload is appended to what it returns.
func beginFrame(dst []byte) []byte { return append(dst, make([]byte, headerSize)...) }

// endFrame fills in the header of the one frame in frame.
func endFrame(frame []byte) {
	payload := frame[headerSize:]
	binary.LittleEndian.PutUint32(frame, uint32(len(payload)))
	binary.LittleEndian.PutUint16(frame[4:], lengthCheck(frame[:4]))
	binary.LittleEndian.PutUint32(frame[6:], crc32.Checksum(payload, castagnoli))
}

// frameReader reads the frames of one segment between two offsets.
type frameReader struct {
	src    io.ReaderAt
	offset int64 // of the next frame
	limit  int64 // bytes of the segment that count
	window []byte
	start  int64 // offset of the window in the segment
}

// windowSize is how much of a segment is read at once.
const windowSize = 256 << 10

// next returns the next payload, valid until the following call. At the limit the error is io.EOF.
// After errPayload reading can go on; after errTorn and errUnfounded there is nothing more to read:
// the bytes between offset and limit are lost. Any other error comes from the disk.
func (f *frameReader) next() ([]byte, error) {
	rest := f.limit - f.offset
	if rest <= 0 {
		return nil, io.EOF
	}
	if rest < headerSize {
		return nil, errTorn
	}
	header, err := f.view(f.offset, headerSize)
	if err != nil {
		return nil, err
	}
	length := int64(binary.LittleEndian.Uint32(header))
	if length > maxPayload || binary.LittleEndian.Uint16(header[4:]) != lengthCheck(header[:4]) {
		return nil, errUnfounded
	}
	if headerSize+length > rest {
		return nil, errTorn
	}
	sum := binary.LittleEndian.Uint32(header[6:])
	payload, err := f.view(f.offset+headerSize, int(length))
	if err != nil {
		return nil, err
	}
	f.offset += headerSize + length
	if crc32.Checksum(payload, castagnoli) != sum {
		return nil, errPayload
	}
	return payload, nil
}

// view returns n bytes at an offset below the limit, from the window if they are there.
func (f *frameReader) view(offset int64, n int) ([]byte, error) {
	if offset < f.start || offset+int64(n) > f.start+int64(len(f.window)) {
		size := int(min(int64(max(n, windowSize)), f.limit-offset))
		if cap(f.window) < size {
			f.window = make([]byte, size)
		}
		f.start, f.window = offset, f.window[:size]
		if _, err := f.src.ReadAt(f.window, offset); err != nil {
			f.window = f.window[:0]
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF // the file is shorter than it was
			}
			return nil, err
		}
	}
	from := offset - f.start
	return f.window[from : from+int64(n)], nil
}
