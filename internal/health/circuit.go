package health

import (
	"math/rand/v2"
	"time"
)

// The numbers of a circuit; doc.go says why.
const (
	failuresInRow = 5
	rowPause      = time.Minute // a row that pauses for longer begins anew

	firstWait   = 5 * time.Second
	longestWait = 20 * time.Second
	jitter      = 0.1
	longestHold = 5 * time.Minute

	winsToClose = 5
	maxProbes   = 1 << (winsToClose - 1)
	probeLease  = 30 * time.Second
	recovered   = 30 * time.Second // closed for so long, a circuit has forgotten its waits
	newPace     = 2 * time.Minute  // slow for so long, slow is usual
)

// circuit is the state machine that doc.go draws. It is as pure as its clock is given.
type circuit struct {
	state State
	since uint64 // the last serial number that was given out when it last opened or closed

	// While it is not closed.
	until  moment        // end of its own wait
	held   moment        // end of the wait that the deployment asked for
	wait   time.Duration // its own wait, without jitter
	rate   float64       // the success rate at which it opened
	wins   int           // successes that it has counted
	probes [maxProbes]lease
	slowly moment // when it opened for slowness; 0: it did not

	// While it is closed.
	closed      moment // since when
	row         int    // failures in a row
	lastFailure moment
	torn        int // streams in a row that broke after they had begun
	lastTear    moment
}

// lease is the place of one probe under way. Its end frees it too: a probe that is never heard of again
// must not block those that come.
type lease struct {
	serial uint64
	ends   moment
}

// reopens is when an open circuit lets its first probe through.
func (c *circuit) reopens() moment { return max(c.until, c.held) }

// at is the state that a request would meet.
func (c *circuit) at(now moment) State {
	if c.state == Open && now >= c.reopens() {
		return HalfOpen
	}
	return c.state
}

// probe takes a place for a probe with the next serial number, when one is free.
func (c *circuit) probe(now moment, serial uint64) bool {
	if c.at(now) != HalfOpen {
		return false
	}
	c.state = HalfOpen
	for i := range c.probes[:c.allowed()] {
		if place := &c.probes[i]; place.ends <= now {
			*place = lease{serial: serial, ends: now + probeLease}
			return true
		}
	}
	return false
}

// allowed is how many probes may be under way: twice as many after each success.
func (c *circuit) allowed() int { return 1 << min(c.wins, winsToClose-1) }

// release frees the place of a probe that has ended. One whose place was given to another has none.
func (c *circuit) release(serial uint64) {
	for i := range c.probes {
		if c.probes[i].serial == serial {
			c.probes[i] = lease{}
		}
	}
}

// fresh says whether a request was sent after the circuit last opened or closed, so that its end says
// something about the present.
func (c *circuit) fresh(serial uint64) bool { return serial > c.since }

// fail counts a failure of the row and says whether the row is full.
func (c *circuit) fail(now moment) bool {
	if now-c.lastFailure > rowPause {
		c.row = 0
	}
	c.row++
	c.lastFailure = now
	return c.row >= failuresInRow
}

// tear is fail for a stream that broke after its success was counted: the success ended the row of failures, and
// has to be taken back by a row of its own.
func (c *circuit) tear(now moment) bool {
	if now-c.lastTear > rowPause {
		c.torn = 0
	}
	c.torn++
	c.lastTear = now
	return c.torn >= failuresInRow
}

// open begins a wait, longer than the last one unless the circuit has recovered since.
func (c *circuit) open(now moment, serial uint64) {
	if c.state == Closed && now-c.closed >= recovered {
		c.wait = 0
	}
	c.wait = min(max(2*c.wait, firstWait), longestWait)
	spread := 1 + jitter*(2*rand.Float64()-1)
	c.until = now + time.Duration(float64(c.wait)*spread)
	c.turn(Open, serial)
}

// hold keeps requests away until a moment, unless that is over before a wait that runs already.
func (c *circuit) hold(until moment, serial uint64) {
	c.held = max(c.held, until)
	if c.state != Open {
		c.turn(Open, serial)
	}
}

// win counts a success while the circuit is not closed; the last one closes it. What a deployment asked
// for itself is kept even when it answers.
func (c *circuit) win(now moment, serial uint64) {
	if now < c.held {
		return
	}
	c.state, c.until = HalfOpen, min(c.until, now)
	if c.wins++; c.wins >= winsToClose {
		c.turn(Closed, serial)
		c.closed, c.row, c.torn, c.slowly = now, 0, 0, 0
	}
}

// turn enters a state in which nothing has happened yet.
func (c *circuit) turn(state State, serial uint64) {
	c.state, c.since, c.wins, c.probes = state, serial, 0, [maxProbes]lease{}
}
