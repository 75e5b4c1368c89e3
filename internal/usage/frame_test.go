package usage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func frameOf(payload []byte) []byte {
	frame := append(beginFrame(nil), payload...)
	endFrame(frame)
	return frame
}

// readAll reads payloads until there is nothing more, stepping over damaged payloads.
func readAll(data []byte) (payloads [][]byte, damaged int, end error) {
	f := frameReader{src: bytes.NewReader(data), limit: int64(len(data))}
	for {
		payload, err := f.next()
		switch {
		case err == nil:
			payloads = append(payloads, bytes.Clone(payload))
		case errors.Is(err, errPayload):
			damaged++
		default:
			return payloads, damaged, err
		}
	}
}

func TestFramesSurvive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOf(rapid.SliceOfN(rapid.Byte(), 1, 2000)).Draw(t, "payloads")
		var data []byte
		for _, p := range want {
			data = append(data, frameOf(p)...)
		}
		got, damaged, err := readAll(data)
		if !errors.Is(err, io.EOF) || damaged != 0 || len(got) != len(want) {
			t.Fatalf("%d of %d frames, %d damaged, %v", len(got), len(want), damaged, err)
		}
		for i := range got {
			if !bytes.Equal(got[i], want[i]) {
				t.Fatalf("frame %d differs", i)
			}
		}
	})
}

func TestFramesLargerThanTheWindow(t *testing.T) {
	var data []byte
	var want [][]byte
	for i, n := range []int{10, windowSize - 7, maxPayload, 1, windowSize * 2, 3} {
		want = append(want, bytes.Repeat([]byte{byte(i + 1)}, n))
		data = append(data, frameOf(want[i])...)
	}
	got, _, err := readAll(data)
	if !errors.Is(err, io.EOF) || !slices.EqualFunc(want, got, bytes.Equal) {
		t.Errorf("%d frames, %v", len(got), err)
	}
}

// A crash in the middle of a write leaves a part of the last frame. All before it is kept.
func TestATornFrameAtEveryOffset(t *testing.T) {
	var whole []byte
	for i := range 3 {
		whole = append(whole, frameOf(fmt.Appendf(nil, "record %d", i))...)
	}
	last := frameOf(appendRecord(nil, sample()))
	for n := 1; n < len(last); n++ {
		got, damaged, err := readAll(append(bytes.Clone(whole), last[:n]...))
		if len(got) != 3 || damaged != 0 || !errors.Is(err, errTorn) {
			t.Fatalf("cut after %d of %d bytes: %d frames, %d damaged, %v", n, len(last), len(got), damaged, err)
		}
	}
}

// No damage of one byte goes unnoticed, and none but that of a header costs another record.
func TestADamagedByteAtEveryOffset(t *testing.T) {
	first, second, third := frameOf([]byte("first")), frameOf([]byte("second")), frameOf([]byte("third"))
	data := bytes.Join([][]byte{first, second, third}, nil)
	for i := range second {
		for _, flip := range []byte{0x01, 0x80, 0xff} {
			hurt := bytes.Clone(data)
			hurt[len(first)+i] ^= flip
			got, damaged, err := readAll(hurt)
			if i < 6 { // length and its check
				if len(got) != 1 || !errors.Is(err, errUnfounded) {
					t.Fatalf("header byte %d: %q, %v", i, got, err)
				}
				continue
			}
			if want := [][]byte{[]byte("first"), []byte("third")}; !cmp.Equal(want, got) || damaged != 1 || !errors.Is(err, io.EOF) {
				t.Fatalf("byte %d: %q, %d damaged, %v", i, got, damaged, err)
			}
		}
	}
}

// After a loss of power a file may end in zeros.
func TestZerosAreNoFrame(t *testing.T) {
	got, _, err := readAll(append(frameOf([]byte("x")), make([]byte, 4096)...))
	if len(got) != 1 || !errors.Is(err, errUnfounded) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestAFileThatShrankIsAnError(t *testing.T) {
	data := frameOf([]byte("first"))
	f := frameReader{src: bytes.NewReader(data[:8]), limit: int64(len(data))}
	if _, err := f.next(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error: %v", err)
	}
}

func FuzzFrameReader(f *testing.F) {
	frame := frameOf(appendRecord(nil, sample()))
	f.Add(frame)
	f.Add(append(bytes.Clone(frame), frame[:20]...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		payloads, _, err := readAll(data)
		if !errors.Is(err, io.EOF) && !errors.Is(err, errTorn) && !errors.Is(err, errUnfounded) {
			t.Fatal(err)
		}
		size := 0
		for _, p := range payloads {
			size += headerSize + len(p)
			var r Record
			_ = decodeRecord(p, &r) // must not panic
		}
		if size > len(data) {
			t.Fatalf("%d bytes of frames in %d bytes", size, len(data))
		}
	})
}
