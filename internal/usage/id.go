package usage

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"
)

const (
	idPrefix = "req_"
	idDigits = "0123456789abcdefghjkmnpqrstvwxyz" // Crockford's base 32 in lower case: no i, l, o, u

	idRandom = 10            // random bytes in an id
	idBuffer = 64 * idRandom // random bytes fetched at once
)

// entropy keeps random bytes that were fetched from the operating system in bulk. Every byte is used
// once; a buffer belongs to one goroutine at a time.
type entropy struct {
	bytes [idBuffer]byte
	used  int
}

// entropies spares NewID a system call in 63 of 64 cases. It holds no state that anyone can observe.
var entropies = sync.Pool{New: func() any { return &entropy{used: idBuffer} }}

// NewID makes a request id: "req_" and 26 characters that hold 48 bits of milliseconds since the epoch
// and 80 random bits. Ids of different milliseconds sort by time; within a millisecond in any order.
func NewID() string {
	e := entropies.Get().(*entropy)
	if e.used == idBuffer {
		_, _ = rand.Read(e.bytes[:]) // crypto/rand.Read never fails: it ends the process instead
		e.used = 0
	}
	var raw [16]byte
	copy(raw[16-idRandom:], e.bytes[e.used:e.used+idRandom])
	e.used += idRandom
	entropies.Put(e)

	ms := uint64(time.Now().UnixMilli())
	raw[0], raw[1] = byte(ms>>40), byte(ms>>32)
	binary.BigEndian.PutUint32(raw[2:], uint32(ms))
	return formatID(binary.BigEndian.Uint64(raw[:8]), binary.BigEndian.Uint64(raw[8:]))
}

// FirstID is the lowest id that a request of a moment, before the year 10889, can have.
func FirstID(at time.Time) string { return formatID(uint64(max(at.UnixMilli(), 0))<<16, 0) }

// formatID writes 128 bits, high ones first, as 26 digits: the first holds only 3 bits.
func formatID(hi, lo uint64) string {
	var text [len(idPrefix) + 26]byte
	copy(text[:], idPrefix)
	digits := text[len(idPrefix):]
	for i := 25; i >= 14; i-- { // 60 bits of the low word
		digits[i] = idDigits[lo&31]
		lo >>= 5
	}
	digits[13] = idDigits[lo|hi&1<<4] // its last 4 bits and 1 of the high word
	hi >>= 1
	for i := 12; i >= 0; i-- {
		digits[i] = idDigits[hi&31]
		hi >>= 5
	}
	return string(text[:])
}
