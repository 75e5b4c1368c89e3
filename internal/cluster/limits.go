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
	// Renew leases what is held anew, also what was lost meanwhile. Of a Rate there is nothing to renew.
	Renew(ctx context.Context, holder Holder, meters []Meter) error
	// Settle ends what was taken, with what it has come to. It is called once for each Take that admitted. What was
	// spent is counted although the hold has expired. Where the meters can not be told, budgets are in doubt
	// as soon as they can be asked again.
	Settle(ctx context.Context, holder Holder, dues []Due)
	// Seed says how much is spent of a budget of which that is not known, or in doubt. Of several who say it the
	// first is believed.
	Seed(ctx context.Context, meter Meter, sum Sum) error
	// Doubt says that what is counted of budgets may not be what was spent. What is not known stays so.
	Doubt(ctx context.Context, meters []Meter) error
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
	// Believe admits by what is counted of Money, although that is in doubt.
	Believe bool
}

// Reading is what a meter said.
type Reading struct {
	Full      bool          // it has no room
	Remaining int64         // before, where it refused; after, where it admitted
	Wait      time.Duration // Rate, when full: until there is room for what was asked, if nobody else takes it
	Reset     time.Duration // Rate: until nothing counts any more
	Step      int64         // Rate: the step in which it was taken, for Due
	Unseeded  bool          // Money: nobody has said yet how much is spent; it has not admitted
	// Doubt is not zero where Money has not admitted because its count is in doubt: for Sum.
	Doubt int64
}

// Sum is what the ledger knows of a budget.
type Sum struct {
	Spent int64 // by requests that ended before Ended
	// Ended divides what the ledger tells from what was settled: a settlement counts where its request ended at that
	// moment or later. For a count in doubt it is a whole second, and not before the last remembered ones.
	Ended time.Time
	Doubt int64 // of the reading
}

// Remembered is for how long it is known what was settled in each second. Clocks of replicas may differ by what
// is left of it after the time that a record takes to the ledger.
const Remembered = time.Minute

// slots are the seconds that are remembered, in a ring.
const slots = 64

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
	Ended  time.Time // Money: when the request ended, as its record says
}

// steps is into how many parts a period is cut.
const steps = 60

// step is the length of a step of a Rate.
func (m *Meter) step() time.Duration { return m.Period / steps }
