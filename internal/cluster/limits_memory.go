package cluster

import (
	"context"
	"hash/maphash"
	"math/bits"
	"sync"
	"time"
)

// shards is how many parts the meters of a process are kept in, so that requests of different accounts do not
// wait for each other. Each is a bit of a word.
const shards = 64

// sweepAfter is the least number of meters in a shard at which the idle ones are looked for.
const sweepAfter = 256

// MemoryMeters are the meters of a single process.
type MemoryMeters struct {
	born   time.Time
	seed   maphash.Seed
	shards [shards]shard
}

// NewMemoryMeters returns meters of which nothing is used.
func NewMemoryMeters() *MemoryMeters {
	m := &MemoryMeters{born: time.Now(), seed: maphash.MakeSeed()}
	for i := range m.shards {
		m.shards[i] = shard{meters: map[string]*gauge{}, sweep: sweepAfter}
	}
	return m
}

// now is the time by a clock that is never set back: steps of a Rate would come again.
func (m *MemoryMeters) now() time.Time { return m.born.Add(time.Since(m.born)) }

type shard struct {
	mu     sync.Mutex
	meters map[string]*gauge
	sweep  int // number of meters at which the next sweep is due
}

func (m *MemoryMeters) shard(key string) int {
	return int(maphash.String(m.seed, key) % shards)
}

// lock locks the shards of a set, in order, so that two requests never wait for each other.
func (m *MemoryMeters) lock(set uint64) (unlock func()) {
	for rest := set; rest != 0; rest &= rest - 1 {
		m.shards[bits.TrailingZeros64(rest)].mu.Lock()
	}
	return func() {
		for rest := set; rest != 0; rest &= rest - 1 {
			m.shards[bits.TrailingZeros64(rest)].mu.Unlock()
		}
	}
}

// gauge is the state of one meter.
type gauge struct {
	until time.Time // nothing of it matters from then on
	rate  window
	// Places and Money.
	leases map[string]lease
	held   int64
	money  money
}

// money is what a budget knows beside its holds. Times are microseconds since the epoch.
type money struct {
	seeded bool
	spent  int64 // by requests that ended at since or later, and what the ledger told of those before
	since  int64
	doubt  int64 // how often it came into doubt; 0: it is not
	recent *[slots]settled
}

// settled is what was settled of requests that ended in a second.
type settled struct{ second, amount int64 }

const secondMicros = int64(time.Second / time.Microsecond)

// settle counts what a request has spent.
func (m *money) settle(ended, amount int64) {
	if m.recent == nil {
		m.recent = new([slots]settled)
	}
	second := max(ended, 0) / secondMicros
	switch at := &m.recent[second%slots]; {
	case at.second < second:
		*at = settled{second, amount}
	case at.second == second:
		at.amount += amount
	}
	if m.seeded && ended >= m.since {
		m.spent += amount
	}
}

// seed begins the count anew, from what the ledger knows.
func (m *money) seed(sum Sum) {
	if m.seeded && (m.doubt == 0 || m.doubt != sum.Doubt) {
		return
	}
	m.seeded, m.doubt, m.since, m.spent = true, 0, sum.Ended.UnixMicro(), sum.Spent
	if m.recent == nil {
		return
	}
	for _, at := range m.recent {
		if at.second*secondMicros >= m.since {
			m.spent += at.amount
		}
	}
}

// question notes that the count may not be what was spent.
func (m *money) question() {
	if m.seeded {
		m.doubt++
	}
}

type lease struct {
	amount int64
	until  time.Time
}

// expire gives back what nobody has renewed, and says whether there was any.
func (g *gauge) expire(now time.Time) (expired bool) {
	for id, l := range g.leases {
		if !now.Before(l.until) {
			g.end(id)
			expired = true
		}
	}
	return expired
}

func (g *gauge) end(id string) {
	g.held -= g.leases[id].amount
	delete(g.leases, id)
}

// gauge returns the state of a meter; its shard is locked.
func (m *MemoryMeters) gauge(meter *Meter, now time.Time) *gauge {
	s := &m.shards[m.shard(meter.Key)]
	g := s.meters[meter.Key]
	if g == nil {
		if len(s.meters) >= s.sweep {
			for key, idle := range s.meters {
				if !now.Before(idle.until) {
					delete(s.meters, key)
				}
			}
			s.sweep = max(sweepAfter, 2*len(s.meters))
		}
		g = &gauge{}
		s.meters[meter.Key] = g
	}
	return g
}

func (m *MemoryMeters) all(n int, meter func(int) *Meter) (unlock func()) {
	var set uint64
	for i := range n {
		set |= 1 << m.shard(meter(i).Key)
	}
	return m.lock(set)
}

// Take implements Meters. It never fails.
func (m *MemoryMeters) Take(_ context.Context, holder Holder, meters []Meter) (Taken, error) {
	defer m.all(len(meters), func(i int) *Meter { return &meters[i] })()
	now := m.now()
	taken := Taken{Admitted: true, Readings: make([]Reading, len(meters))}
	for i := range meters {
		r := m.gauge(&meters[i], now).read(&meters[i], now)
		taken.Readings[i] = r
		if r.Unseeded || r.Doubt != 0 && !meters[i].Believe || r.Full && !meters[i].Over {
			taken.Admitted = false
		}
	}
	if !taken.Admitted {
		return taken, nil
	}
	for i := range meters {
		m.gauge(&meters[i], now).take(&meters[i], holder, now, &taken.Readings[i])
	}
	return taken, nil
}

// read says what a meter has room for.
func (g *gauge) read(m *Meter, now time.Time) Reading {
	switch m.Kind {
	case Rate:
		return g.rate.read(m, now)
	case Places:
		g.expire(now)
		return Reading{Full: g.held >= m.Limit, Remaining: m.Limit - g.held}
	default:
		if g.expire(now) { // who dies may have spent something, and told the ledger only
			g.money.question()
		}
		left := m.Limit - g.money.spent - g.held
		return Reading{Full: left <= 0, Remaining: left, Unseeded: !g.money.seeded, Doubt: g.money.doubt}
	}
}

// take takes what read has found room for.
func (g *gauge) take(m *Meter, holder Holder, now time.Time, r *Reading) {
	r.Remaining -= m.Amount
	if m.Kind == Rate {
		g.rate.add(r.Step, m.Amount)
		g.until = now.Add(2 * m.Period)
		r.Reset = g.rate.reset(m, now)
		return
	}
	g.hold(m, holder, now)
}

// hold leases what is asked of places or money, to one who may hold it already.
func (g *gauge) hold(m *Meter, holder Holder, now time.Time) {
	g.until = now.Add(holder.Lease)
	if m.Kind == Money {
		g.until = latest(g.until, m.End.Add(afterEnd))
	}
	if g.leases == nil {
		g.leases = map[string]lease{}
	}
	g.end(holder.ID)
	g.leases[holder.ID] = lease{m.Amount, now.Add(holder.Lease)}
	g.held += m.Amount
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Renew implements Meters. It never fails.
func (m *MemoryMeters) Renew(_ context.Context, holder Holder, meters []Meter) error {
	defer m.all(len(meters), func(i int) *Meter { return &meters[i] })()
	now := m.now()
	for i := range meters {
		if meters[i].Kind != Rate {
			m.gauge(&meters[i], now).hold(&meters[i], holder, now)
		}
	}
	return nil
}

// Seed implements Meters. It never fails.
func (m *MemoryMeters) Seed(_ context.Context, meter Meter, sum Sum) error {
	defer m.lock(1 << m.shard(meter.Key))()
	g := m.gauge(&meter, m.now())
	g.until = meter.End.Add(afterEnd)
	g.money.seed(sum)
	return nil
}

// Doubt implements Meters. It never fails.
func (m *MemoryMeters) Doubt(_ context.Context, meters []Meter) error {
	defer m.all(len(meters), func(i int) *Meter { return &meters[i] })()
	now := m.now()
	for i := range meters {
		m.gauge(&meters[i], now).money.question()
	}
	return nil
}

// Settle implements Meters.
func (m *MemoryMeters) Settle(_ context.Context, holder Holder, dues []Due) {
	defer m.all(len(dues), func(i int) *Meter { return &dues[i].Meter })()
	now := m.now()
	for i := range dues {
		d := &dues[i]
		g := m.gauge(&d.Meter, now)
		switch d.Meter.Kind {
		case Rate:
			g.rate.correct(d, now)
		case Places:
			g.end(holder.ID)
		default:
			g.end(holder.ID)
			g.money.settle(d.Ended.UnixMicro(), d.Amount)
		}
	}
}

// window counts over a sliding period, in steps. It remembers one step more than a period has, because the
// oldest is only partly out of sight.
type window struct {
	counts [steps + 1]int64
	sum    int64
	low    int64 // the oldest step that may count
	high   int64 // the newest that was added to
}

func current(m *Meter, now time.Time) int64 { return now.UnixMicro() / m.step().Microseconds() }

// forget drops what is older than the period before a step.
func (w *window) forget(at int64) {
	oldest := at - steps
	for s := w.low; s < min(oldest, w.low+steps+1); s++ {
		i := s % (steps + 1)
		w.sum -= w.counts[i]
		w.counts[i] = 0
	}
	w.low = max(w.low, oldest)
}

func (w *window) read(m *Meter, now time.Time) Reading {
	at := current(m, now)
	w.forget(at)
	r := Reading{Remaining: max(m.Limit-w.sum, 0), Step: at, Reset: w.reset(m, now)}
	if w.sum+m.Amount <= m.Limit {
		return r
	}
	r.Full = true
	left := w.sum
	for s := w.low; s <= w.high; s++ {
		if left -= w.counts[s%(steps+1)]; left+m.Amount <= m.Limit {
			r.Wait = gone(m, s, now)
			return r
		}
	}
	r.Wait = m.Period
	return r
}

func (w *window) add(step, amount int64) {
	w.counts[step%(steps+1)] += amount
	w.sum += amount
	w.high = max(w.high, step)
}

// correct replaces what was taken by what it has come to. What is out of sight is not taken back; what came in addition
// then counts from now on.
func (w *window) correct(d *Due, now time.Time) {
	at := current(&d.Meter, now)
	w.forget(at)
	more := d.Amount - d.Meter.Amount
	if d.Step >= w.low {
		// A limit that was changed meanwhile has steps of its own; nothing may become less than nothing.
		w.add(d.Step, max(more, -w.counts[d.Step%(steps+1)]))
	} else if more > 0 {
		w.add(at, more)
	}
}

// reset is how long something counts.
func (w *window) reset(m *Meter, now time.Time) time.Duration {
	if w.sum == 0 {
		return 0
	}
	return gone(m, w.high, now)
}

// gone is how long it takes until a step does not count any more.
func gone(m *Meter, step int64, now time.Time) time.Duration {
	end := (step + steps + 1) * m.step().Microseconds()
	return time.Duration(end-now.UnixMicro()) * time.Microsecond
}
