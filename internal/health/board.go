package health

import (
	"sync"
	"time"
)

// State is what a circuit lets through.
type State string

// The states of a circuit.
const (
	Closed   State = "closed"    // everything
	Open     State = "open"      // nothing
	HalfOpen State = "half_open" // a few requests, to find out
)

// Board holds the health of everything that can fail. It is safe for concurrent use. Ids are the
// caller's: a deployment's is its provider/model, a provider key's and a drill's share have a prefix.
type Board struct {
	deployments sync.Map // string → *Deployment
	keys        sync.Map // string → *Key
}

// NewBoard makes an empty board: everything is taken to be well.
func NewBoard(o Options) *Board { return &Board{} }

// Options configure a board. The zero value is good for production.
type Options struct{}

// Deployment returns the health of a deployment, which stays the same for the board's life.
func (b *Board) Deployment(id string) *Deployment {
	if d, ok := b.deployments.Load(id); ok {
		return d.(*Deployment)
	}
	d, _ := b.deployments.LoadOrStore(id, &Deployment{})
	return d.(*Deployment)
}

// Key returns the health of a provider key.
func (b *Board) Key(id string) *Key {
	if k, ok := b.keys.Load(id); ok {
		return k.(*Key)
	}
	k, _ := b.keys.LoadOrStore(id, &Key{})
	return k.(*Key)
}

// View is the health of a deployment at one moment.
type View struct {
	State       State
	Badness     float64       // see Deployment.Badness
	Latency     time.Duration // see Deployment.Latency
	SuccessRate float64       // see Deployment.SuccessRate
}

// Look returns the health of a deployment; of one never heard of, that it is well.
func (b *Board) Look(id string) View { return View{State: Closed, SuccessRate: 1} }

// Turn returns the next number in [0, 1) of a sequence of its own for each name. The numbers of a
// sequence are spread evenly, so that shares of traffic drawn with them hold to within a request or two.
func (b *Board) Turn(name string) float64 { return 0 }

// Deployment is the health of one deployment.
type Deployment struct{}

// State is what the circuit lets through now.
func (d *Deployment) State() State { return Closed }

// Acquire asks to send one request now. When the answer is no, the request must not be sent.
func (d *Deployment) Acquire() (Permit, bool) { return Permit{deployment: d}, true }

// Insist is Acquire for a request that has nowhere else to go: it is never refused, and counts as any.
func (d *Deployment) Insist() Permit { return Permit{deployment: d} }

// Badness compares deployments that are all ejected: the lowest serves. 0 is well.
func (d *Deployment) Badness() float64 { return 0 }

// Latency is the usual time to the first token of recent successes; for a unary request, to the whole
// answer. 0: unknown.
func (d *Deployment) Latency() time.Duration { return 0 }

// P95 is the 95th percentile of the same; 0 while too few are known.
func (d *Deployment) P95() time.Duration { return 0 }

// SuccessRate is the share of recent requests that succeeded; 1 when none is known.
func (d *Deployment) SuccessRate() float64 { return 1 }

// SpendRetry takes one retry (or hedge) from the budget, which fills with first attempts, or says
// that it is empty.
func (d *Deployment) SpendRetry() bool { return true }

// HoldOff keeps requests away for a time that the deployment itself asked for. A shorter one never ends a
// longer one early.
func (d *Deployment) HoldOff(wait time.Duration) {}

// Fail notes a failure outside of a permit: a stream that broke after its success was noted.
func (d *Deployment) Fail() {}

// Permit is the right to send one request. One of its methods must be called, once; the zero value
// belongs to no deployment and does nothing.
type Permit struct {
	deployment *Deployment
	probe      bool
}

// Probe says that the request finds out whether a circuit may close.
func (p Permit) Probe() bool { return p.probe }

// Succeeded notes a success and its latency (see Deployment.Latency).
func (p Permit) Succeeded(latency time.Duration) {}

// Failed notes a failure of the deployment.
func (p Permit) Failed() {}

// Dropped notes that the request says nothing about the deployment: its client left, or had asked for
// something wrong.
func (p Permit) Dropped() {}

// Key is the health of one provider key.
type Key struct{}

// Usable says whether the key may be used now.
func (k *Key) Usable() bool { return true }

// Until is the moment at which the key may be used again; zero when it may be used.
func (k *Key) Until() time.Time { return time.Time{} }

// Reject takes the key out of use for a time that grows with every rejection in a row.
func (k *Key) Reject() {}

// Limit takes the key out of use until a provider's limit is over; 0: the provider did not say.
func (k *Key) Limit(wait time.Duration) {}

// Accept notes that the key was good.
func (k *Key) Accept() {}
