package node

import "time"

// Mode says when the machine serves.
type Mode string

// The modes. Hours narrow all of them.
const (
	Always   Mode = "always"
	Idle     Mode = "idle"     // while nobody else needs the machine
	Schedule Mode = "schedule" // within the hours, whoever else needs it
)

// Unknown stands for a share that can not be read on this machine. It keeps nobody from serving.
const Unknown = -1

// Power is what the machine runs on.
type Power uint8

// The sources of power.
const (
	PowerUnknown Power = iota
	Mains
	Battery
)

// Readings are what the machine's sensors say at one moment.
type Readings struct {
	// CPU and GPU are the shares that others than the engines use, 0 to 1, or Unknown.
	CPU, GPU float64
	// Away is for how long nobody has touched keyboard or mouse; negative: it can not be read, or there is nobody.
	Away  time.Duration
	Power Power
}

// Rules are the owner's rules of when to serve.
type Rules struct {
	Mode  Mode
	Hours Hours
	// Grace is how long requests that run may go on when the machine stops serving. In Settings zero stands for
	// the default of 10 s.
	Grace time.Duration
	// The rest is for the mode idle.
	After     time.Duration // the machine has to be quiet for so long before it serves
	CPU, GPU  float64       // share of others up to which it is quiet
	OnBattery PowerRule
}

// AtOnce is the grace of an owner who gives none.
const AtOnce = time.Nanosecond

// PowerRule says whether running on battery counts as idle.
type PowerRule string

// The rules for batteries.
const (
	NotOnBattery  PowerRule = "no"
	EvenOnBattery PowerRule = "yes"
)

// Reason is one word for why the machine serves, or does not.
type Reason string

// The reasons.
const (
	Willing   Reason = "serving"
	Starting  Reason = "starting"
	Paused    Reason = "paused"
	NoEngine  Reason = "no_engine"
	NoTokens  Reason = "tokens"
	OffHours  Reason = "hours"
	InUse     Reason = "user"
	Unplugged Reason = "battery"
	Busy      Reason = "busy"
	Settling  Reason = "settling"
)

// words say the reasons to the owner.
var words = map[Reason]string{
	Willing: "taking requests", Starting: "starting",
	Paused:    "paused by its owner; shareai node resume goes on",
	NoEngine:  "no engine with a model was found",
	NoTokens:  "the tokens of today are used up",
	OffHours:  "outside of the hours in which it may serve",
	InUse:     "somebody uses the machine",
	Unplugged: "the machine runs on battery",
	Busy:      "other programs are busy",
	Settling:  "waiting until the machine has been idle for long enough",
}

// Text says a reason in words.
func (r Reason) Text() string { return words[r] }

// Phase is what the machine lends at the moment.
type Phase string

// The phases.
const (
	Serving Phase = "serving" // takes requests
	Leaving Phase = "leaving" // takes none; those that run may end within the grace
	Resting Phase = "resting" // takes none, runs none
)

// busyFor is how long others must be busy before the machine stops serving for their sake: starting a program is not work
// yet.
const busyFor = 10 * time.Second

// Circumstances are what decides about serving, beside the readings.
type Circumstances struct {
	Now      time.Time
	Readings Readings
	// Stopped is why the machine does not serve, whatever its mode; empty: nothing keeps it.
	Stopped Reason
	// AtOnce means that what runs is to be ended without grace.
	AtOnce  bool
	Running int // requests in flight
}

// Decision is what follows.
type Decision struct {
	Phase Phase
	Why   Reason
	Since time.Time // of the phase
	Until time.Time // of Leaving: when the grace is over; else zero
	Cut   bool      // what runs is to be ended now
}

// Machine decides about serving. It is a pure state machine: it moves when Step is called, and knows no clock of its own.
type Machine struct {
	rules Rules
	last  Decision
	quiet time.Time // since when nobody else needs the machine; zero: somebody does
	loud  time.Time // since when processors are busy with others; zero: they are not
}

// NewMachine makes a machine that rests.
func NewMachine(rules Rules) *Machine {
	return &Machine{rules: rules, last: Decision{Phase: Resting, Why: Starting}}
}

// Step takes the circumstances of one moment, not earlier than those of the last one.
func (m *Machine) Step(c Circumstances) Decision {
	may, why := m.may(&c)
	next := Decision{Phase: m.last.Phase, Why: why, Since: m.last.Since, Until: m.last.Until}
	switch {
	case may:
		next.Phase, next.Until = Serving, time.Time{}
	case m.last.Phase == Serving && c.Running > 0:
		next.Phase, next.Until = Leaving, c.Now.Add(m.rules.Grace)
	case m.last.Phase != Leaving || c.Running == 0:
		next.Phase, next.Until = Resting, time.Time{}
	}
	// Without an engine there is nothing that the machine could be spared; what runs may yet come to its end.
	if next.Phase == Leaving && why != NoEngine && (c.AtOnce || !c.Now.Before(next.Until)) {
		next.Cut = true
	}
	if next.Phase != m.last.Phase || next.Since.IsZero() {
		next.Since = c.Now
	}
	m.last = next
	return next
}

// may says whether the machine may serve now, and why, or why not.
func (m *Machine) may(c *Circumstances) (may bool, why Reason) {
	idle, why := m.idle(c) // its clocks run in every case
	switch {
	case c.Stopped != "":
		return false, c.Stopped
	case !m.rules.Hours.Has(c.Now.Local()):
		return false, OffHours
	case m.rules.Mode == Idle:
		return idle, why
	default:
		return true, Willing
	}
}

// idle says whether nobody else needs the machine. The hysteresis: it becomes idle when everything was quiet for
// Rules.After, and ceases to be when a user comes back or the power fails (at once), or when processors are busy above
// twice what is quiet, for busyFor.
func (m *Machine) idle(c *Circumstances) (idle bool, why Reason) {
	r := &c.Readings
	need := m.needed(r)
	busy := exceeds(r.CPU, m.rules.CPU) || exceeds(r.GPU, m.rules.GPU)
	switch {
	case need != "" || busy && m.last.Phase != Serving:
		m.quiet = time.Time{}
	case m.quiet.IsZero():
		m.quiet = c.Now
	}
	if exceeds(r.CPU, loudly(m.rules.CPU)) || exceeds(r.GPU, loudly(m.rules.GPU)) {
		if m.loud.IsZero() {
			m.loud = c.Now
		}
	} else {
		m.loud = time.Time{}
	}
	switch {
	case need != "":
		return false, need
	case m.last.Phase == Serving && !m.loud.IsZero() && c.Now.Sub(m.loud) >= busyFor:
		m.quiet = time.Time{}
		return false, Busy
	case m.last.Phase == Serving:
		return true, Willing
	case m.quiet.IsZero():
		return false, Busy
	case c.Now.Sub(m.quiet) < m.rules.After:
		return false, Settling
	default:
		return true, Willing
	}
}

// needed says what ends idleness at once.
func (m *Machine) needed(r *Readings) Reason {
	switch {
	case r.Away >= 0 && r.Away < m.rules.After:
		return InUse
	case r.Power == Battery && m.rules.OnBattery != EvenOnBattery:
		return Unplugged
	default:
		return ""
	}
}

func exceeds(share, limit float64) bool { return share != Unknown && share > limit }

// loudly is the share above which others count as busy while the machine serves.
func loudly(quiet float64) float64 { return min(2*quiet, (1+quiet)/2) }
