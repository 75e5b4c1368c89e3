package app

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// heapFloor is the size, in bytes, that the heap may reach before garbage is collected. A gateway keeps
// little alive (about 10 MiB) and makes much that is short-lived: with Go's rule of doubling it would
// collect every few milliseconds under load, for a tenth of its CPU.
const heapFloor = 64 << 20

// roomyHeap lets the heap grow to heapFloor, and beyond it to twice what is alive, as Go does by itself.
// After each collection the percentage is set anew from what was found alive. Whoever sets GOGC or
// GOMEMLIMIT decides instead.
func roomyHeap() {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	adjust := func() {
		metrics.Read(live)
		debug.SetGCPercent(gcPercent(live[0].Value.Uint64()))
	}
	adjust()
	afterCollection(adjust)
}

// gcPercent is by how many percent of what is alive the heap may grow.
func gcPercent(live uint64) int {
	const least, most = 100, 1000
	if live == 0 {
		return most
	}
	room := int64(heapFloor) - int64(live)
	return int(min(max(room*100/int64(live), least), most))
}

// afterCollection calls f after each garbage collection: the runtime tells when an object that nobody
// holds is gone, and the next one takes its place.
func afterCollection(f func()) {
	sentinel := new([16]byte)
	runtime.AddCleanup(sentinel, func(again func()) { again() }, func() { f(); afterCollection(f) })
}
