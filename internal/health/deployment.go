package health

import (
	"sync"
	"time"
)

// Deployment is the health of one deployment.
type Deployment struct {
	id       string
	clock    clock
	onChange func(id string, from, to State)

	mu      sync.Mutex
	circuit circuit
	window  window
	paces   [2]pace // by mode
	budget  budget
	serial  uint64 // of the last permit
	heard   moment // when a request last told something; 0: never
	used    moment
}

func newDeployment(id string, b *Board) *Deployment {
	return &Deployment{
		id: id, clock: b.clock, onChange: b.onChange, used: b.clock.now(),
		circuit: circuit{state: Closed}, budget: budget{fullBudget},
	}
}

// State is what the circuit lets through now.
func (d *Deployment) State() State {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.circuit.at(d.clock.now())
}

// Acquire asks to send one request now. When the answer is no, the request must not be sent.
func (d *Deployment) Acquire() (Permit, bool) {
	d.mu.Lock()
	if d.circuit.state == Closed { // nothing here depends on the time
		p := d.permit()
		d.mu.Unlock()
		return p, true
	}
	before := d.circuit.state
	if !d.circuit.probe(d.clock.now(), d.serial+1) {
		d.unlock(before)
		return Permit{}, false
	}
	p := d.permit()
	p.probe = true
	d.unlock(before)
	return p, true
}

// Insist is Acquire for a request that has nowhere else to go: it is never refused, and counts as any.
func (d *Deployment) Insist() Permit {
	d.mu.Lock()
	before := d.circuit.state
	probe := before != Closed && d.circuit.probe(d.clock.now(), d.serial+1)
	p := d.permit()
	p.probe = probe
	d.unlock(before)
	return p
}

func (d *Deployment) permit() Permit {
	d.serial++
	d.budget.earn()
	return Permit{deployment: d, serial: d.serial}
}

// unlock ends a change of the circuit, and tells of it when it was one.
func (d *Deployment) unlock(before State) {
	after := d.circuit.state
	d.mu.Unlock()
	if after != before && d.onChange != nil {
		d.onChange(d.id, before, after)
	}
}

// Badness compares deployments that are all ejected: the lowest serves. 0 is well. One that may be probed
// is better than one that waits, then one that fails less, then one that waits less.
func (d *Deployment) Badness() float64 { return d.view().Badness }

func (d *Deployment) badness(now moment, state State, rate float64) float64 {
	switch state {
	case Closed:
		return 0
	case HalfOpen:
		return 2 - rate
	default:
		return 3 - rate + (d.circuit.reopens()-now).Seconds()/longestHold.Seconds()
	}
}

// P95 is the 95th percentile of the latency of recent successes; 0 while too few are known.
func (d *Deployment) P95(m Mode) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.paces[m].p95(d.clock.now())
}

// SuccessRate is the share of recent requests that succeeded; 1 when none is known. While the circuit is
// not closed it is no better than when it opened: that few requests are sent makes nothing well.
func (d *Deployment) SuccessRate() float64 { return d.view().SuccessRate }

func (d *Deployment) rate(now moment) float64 {
	rate := d.window.sum(now).rate()
	if d.circuit.state != Closed {
		rate = min(rate, d.circuit.rate)
	}
	return rate
}

func (d *Deployment) view() View {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.look(d.clock.now())
}

func (d *Deployment) look(now moment) View {
	state, rate := d.circuit.at(now), d.rate(now)
	return View{State: state, Badness: d.badness(now, state, rate), Latency: d.known(now), SuccessRate: rate}
}

func (d *Deployment) known(now moment) (l [2]time.Duration) {
	for m := range d.paces {
		l[m] = d.paces[m].known(now)
	}
	return l
}

func (d *Deployment) status() Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.clock.now()
	s := Status{ID: d.id, View: d.look(now), P95: [2]time.Duration{d.paces[FirstToken].p95(now), d.paces[WholeAnswer].p95(now)}}
	if s.State == Open {
		s.Until = d.clock.time(d.circuit.reopens())
	}
	return s
}

// Heard is when a request last told something about the deployment, good or bad; zero when none has.
func (d *Deployment) Heard() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.heard == 0 {
		return time.Time{}
	}
	return d.clock.time(d.heard)
}

// SpendRetry takes one retry (or hedge) from the budget, which fills with first attempts, or says
// that it is empty.
func (d *Deployment) SpendRetry() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.budget.spend()
}

// HoldOff keeps requests away for a time that the deployment itself asked for, 5 minutes at most. A shorter
// one never ends a longer one early. The failure that came with it is to be noted before.
func (d *Deployment) HoldOff(wait time.Duration) {
	if wait <= 0 {
		return
	}
	d.mu.Lock()
	before, now := d.circuit.state, d.clock.now()
	d.opens(now)
	d.circuit.hold(now+min(wait, longestHold), d.serial)
	d.used = now
	d.unlock(before)
}

// Held says whether the circuit is open because the deployment asked for time.
func (d *Deployment) Held() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.circuit.held > d.clock.now()
}

// EndWait lets a probe through at once where an open circuit has a wait of its own: there is reason to
// believe that the deployment is back. A wait that the deployment asked for is kept.
func (d *Deployment) EndWait() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.circuit.state == Open {
		d.circuit.until = min(d.circuit.until, d.clock.now())
	}
}

// Fail notes a failure outside of a permit. It may open a closed circuit, and does not move any other.
func (d *Deployment) Fail() {
	d.mu.Lock()
	before := d.circuit.state
	d.failed(d.clock.now())
	d.unlock(before)
}

// Broke notes that a stream broke whose beginning was counted as a success, which is taken back. It may open a
// closed circuit, and does not move any other: nobody knows when the stream was opened.
func (d *Deployment) Broke() {
	d.mu.Lock()
	before, now := d.circuit.state, d.clock.now()
	d.heard, d.used = now, now
	bucket := d.window.at(now)
	bucket.succeeded = max(bucket.succeeded, 1) - 1
	bucket.failed++
	row := d.circuit.tear(now)
	if d.circuit.state == Closed && (row || d.window.sum(now).failing()) {
		d.opens(now)
		d.circuit.open(now, d.serial)
	}
	d.unlock(before)
}

// Completed notes that a stream came to its end.
func (d *Deployment) Completed() {
	d.mu.Lock()
	d.circuit.torn = 0
	d.mu.Unlock()
}

// failed counts a failure, and opens a closed circuit when it was one too many.
func (d *Deployment) failed(now moment) {
	d.heard, d.used = now, now
	d.window.at(now).failed++
	row := d.circuit.fail(now)
	if d.circuit.state == Closed && (row || d.window.sum(now).failing()) {
		d.opens(now)
		d.circuit.open(now, d.serial)
	}
}

// opens remembers how things stood when the circuit left the closed state.
func (d *Deployment) opens(now moment) {
	if d.circuit.state == Closed {
		d.circuit.rate = d.window.sum(now).rate()
	}
}

// Permit is the right to send one request. One of its methods must be called, once; the zero value
// belongs to no deployment and does nothing.
type Permit struct {
	deployment *Deployment
	serial     uint64
	probe      bool
}

// Probe says that the request finds out whether a circuit may close.
func (p Permit) Probe() bool { return p.probe }

// Succeeded notes a success and its latency; 0 when that is nothing to learn from.
func (p Permit) Succeeded(m Mode, latency time.Duration) {
	d := p.deployment
	if d == nil {
		return
	}
	d.mu.Lock()
	before := d.circuit.state
	d.succeeded(p, m, latency)
	d.unlock(before)
}

func (d *Deployment) succeeded(p Permit, m Mode, latency time.Duration) {
	c, now := &d.circuit, d.clock.now()
	slow := latency > 0 && d.paces[m].note(now, latency)
	d.heard, d.used = now, now
	bucket := d.window.at(now)
	bucket.succeeded++
	if slow {
		bucket.slow++
	}
	if !c.fresh(p.serial) {
		return
	}
	c.row = 0
	if p.probe {
		c.release(p.serial)
	}
	switch {
	case c.state == Closed:
		if slow && d.window.sum(now).slowing() {
			d.opens(now)
			c.slowly = now
			c.open(now, d.serial)
		}
	case slow && c.slowly > 0 && now-c.slowly < newPace:
		if p.probe {
			c.open(now, d.serial)
		}
	default:
		d.won(now)
	}
}

// won counts a success towards closing. A circuit that closes begins with an empty window, and one that
// was open for a slowness that goes on learns anew what is usual.
func (d *Deployment) won(now moment) {
	c := &d.circuit
	lasting := c.slowly > 0 && now-c.slowly >= newPace
	if c.win(now, d.serial); c.state == Closed {
		d.window = window{}
		if lasting {
			d.paces = [2]pace{{halved: now}, {halved: now}}
		}
	}
}

// Failed notes a failure of the deployment.
func (p Permit) Failed() {
	d := p.deployment
	if d == nil {
		return
	}
	d.mu.Lock()
	before := d.circuit.state
	c, now := &d.circuit, d.clock.now()
	fresh := c.fresh(p.serial)
	switch {
	case before == Closed && !fresh: // sent before it was closed: long known
		d.used = now
	case before == HalfOpen && fresh && p.probe:
		d.failed(now)
		c.open(now, d.serial)
	default:
		d.failed(now)
	}
	d.unlock(before)
}

// Dropped notes that the request says nothing about the deployment: its client left, or had asked for
// something wrong.
func (p Permit) Dropped() {
	d := p.deployment
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if p.probe {
		d.circuit.release(p.serial)
	}
}

func (d *Deployment) idleSince() moment {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.used
}
