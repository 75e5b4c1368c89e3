package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// stripIn takes the framing off in pieces: cuts are their lengths, over and over.
func stripIn(wire, cuts []byte) (data []byte, behind int, err error) {
	var d dechunker
	for i := 0; len(wire) > 0 && !d.over(); i++ {
		size := len(wire)
		if len(cuts) > 0 {
			size = min(size, int(cuts[i%len(cuts)])+1)
		}
		piece := bytes.Clone(wire[:size]) // it is changed
		wire = wire[size:]
		var n int
		n, behind, err = d.strip(piece)
		data = append(data, piece[:n]...)
		if err != nil {
			return data, 0, err
		}
	}
	if !d.over() {
		return data, 0, errors.New("it breaks off")
	}
	return data, behind + len(wire), nil
}

// TestDechunkerReadsWhatIsWellFormed makes bodies that net/http takes, and cuts them anywhere.
func TestDechunkerReadsWhatIsWellFormed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var wire, want []byte
		for range rapid.IntRange(0, 8).Draw(t, "chunks") {
			data := rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "data")
			size := rapid.SampledFrom([]string{"%x", "%X", "%06x", "%x ", "%x \t", "%x;a", "%x; a=\"b c\"; d"}).Draw(t, "size")
			wire = fmt.Appendf(wire, size+"\r\n%s\r\n", len(data), data)
			want = append(want, data...)
		}
		wire = append(wire, rapid.SampledFrom([]string{"0\r\n\r\n", "000;x\r\n\r\n", "0\r\nA: b\r\nC:d\r\n\r\n"}).Draw(t, "end")...)
		if standard, err := standardBody(append([]byte(chunkedHead), wire...)); err != nil || standard != string(want) {
			t.Fatalf("net/http does not take %q: %v", wire, err)
		}
		cuts := rapid.SliceOfN(rapid.Byte(), 0, 5).Draw(t, "cuts")
		got, behind, err := stripIn(append(wire, "HTTP/1.1"...), cuts)
		if err != nil || behind != len("HTTP/1.1") || !bytes.Equal(got, want) {
			t.Fatalf("%q in pieces of %d: %q, %d bytes behind it, %v", wire, cuts, got, behind, err)
		}
	})
}

const chunkedHead = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

// FuzzDechunker wants the same whatever the cuts are, and what is taken for a whole body to be one for
// net/http as well, with the same data.
func FuzzDechunker(f *testing.F) {
	for _, seed := range []string{
		"5\r\nhello\r\n0\r\n\r\nrest", "0A;x=y\r\n0123456789\r\n00\r\nA: b\r\n\r\n", "1 \r\nx\r\n1\t\r\ny\r\n0\r\n\r\n", "2 ;a\r\nxx\r\n0\r\n\r\n",
		"1;\r\nx\r\n0\r\n\r\n", "000000000000001\r\nx\r\n0\r\n\r\n", "fffffffffffffff\r\nx", "1\nx\n0\n\n", "1\r\nxx\r\n0\r\n\r\n", ";\r\n\r\n", "0\r\nA\r\n\r\n",
	} {
		f.Add([]byte(seed), []byte{0})
		f.Add([]byte(seed), []byte{2, 0, 5})
	}
	f.Fuzz(func(t *testing.T, wire, cuts []byte) {
		whole, behind, err := stripIn(wire, nil)
		for _, cuts := range [][]byte{cuts, {0}} {
			got, left, failed := stripIn(wire, cuts)
			if !bytes.Equal(got, whole) || left != behind || (failed == nil) != (err == nil) {
				t.Fatalf("%q in pieces of %d: %q, %d behind, %v; in one piece: %q, %d, %v", wire, cuts, got, left, failed, whole, behind, err)
			}
		}
		if err != nil {
			return
		}
		standard, failed := standardBody(append([]byte(chunkedHead), wire...))
		if failed != nil || standard != string(whole) {
			t.Fatalf("%q: taken for %q; net/http reads %q, %v", wire, whole, standard, failed)
		}
	})
}
