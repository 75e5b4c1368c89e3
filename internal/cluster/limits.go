package cluster

import (
	"context"
	"time"
)

// Meters count what is used of limits and budgets. A request takes from all of its meters at once or from
// none. Nothing that dies keeps anything for long: places and holds are leased.
type Meters interface {
	// Take takes from every meter when each has room, and from none otherwise. What is leased is given
	// back after lease at the latest. The error says that nothing is known: the meters can not be asked.
	Take(ctx context.Context, holder Holder, meters []Meter) (Taken, error)
	// Seed says how much is spent of a budget whose reading was Unseeded. Whoever says it first is believed.
	Seed(ctx context.Context, meter Meter, spent int64) error
	// Settle ends what was taken, with what it has come to. It is called once for each Take that admitted. What was
	// spent is counted although the hold has expired, and is not lost when the meters can not be asked.
	Settle(ctx context.Context, holder Holder, dues []Due)
}

// Holder is who takes.
type Holder struct {
	ID    string // unlike all others
	Lease time.Duration
}

// MeterKind says how a meter counts.
type MeterKind byte

// The kinds of meters.
const (
	// Rate admits Limit in any Period. The period slides in steps of a sixtieth, and what was taken counts
	// until its step is out of sight: never less than Period, and up to a step longer.
	Rate MeterKind = 'r'
	// Places admits Limit holders at a time.
	Places MeterKind = 'p'
	// Money admits while what is spent and what is held are together below Limit.
	Money MeterKind = 'm'
)

// Meter is one limit with what is asked of it.
type Meter struct {
	Kind   MeterKind
	Key    string // identifies it among all
	Limit  int64
	Amount int64         // asked for; of places always 1. At most Limit of a Rate, or it never admits
	Period time.Duration // Rate: at least a minute
	End    time.Time     // Money: from when on nobody asks any more
	Over   bool          // Money: admits when nothing is left as well
}

// Reading is what a meter said.
type Reading struct {
	Full      bool          // it has no room
	Remaining int64         // before, where it refused; after, where it admitted
	Wait      time.Duration // Rate, when full: until there is room for what was asked, if nobody else takes it
	Reset     time.Duration // Rate: until nothing counts any more
	Step      int64         // Rate: the step in which it was taken, for Due
	Unseeded  bool          // Money: nobody has said yet how much is spent; it has not admitted
}

// Taken is the answer to a Take: a reading for each meter.
type Taken struct {
	Admitted bool
	Readings []Reading
}

// Due is what a meter is due when its holder ends.
type Due struct {
	Meter Meter
	Step  int64 // of the reading
	// Amount is what it has come to: tokens or requests of a Rate, nano-dollars of Money.
	Amount int64
}

// steps is into how many parts a period is cut.
const steps = 60

// step is the length of a step of a Rate.
func (m *Meter) step() time.Duration { return m.Period / steps }
