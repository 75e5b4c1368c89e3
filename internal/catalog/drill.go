package catalog

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"shareai/internal/account"
)

// Drill makes a part of the providers fail for one API key or project, for a time: a failover can so be
// watched without an outage. Everybody else is served as ever.
type Drill struct {
	ID           string `json:"id"` // drill_...
	Organization string `json:"organization"`
	Project      string `json:"project"`
	KeyID        string `json:"key_id,omitempty"` // empty: every key of the project
	// What fails: exactly one of the three is set.
	Provider   string `json:"provider,omitempty"`
	Deployment string `json:"deployment,omitempty"` // provider/model
	Region     string `json:"region,omitempty"`

	Fault   DrillFault     `json:"fault"`
	Share   float64        `json:"share"` // of the attempts that fail, above 0 and at most 1
	Starts  time.Time      `json:"starts"`
	Ends    time.Time      `json:"ends"`
	By      string         `json:"by,omitempty"` // who started it, in words
	Origin  account.Origin `json:"-"`
	Stopped time.Time      `json:"stopped,omitzero"` // zero: runs to its end
}

// DrillFault is a way in which a drill makes a deployment fail.
type DrillFault string

// The faults of drills.
const (
	DrillBlackhole DrillFault = "blackhole"        // connected, and never an answer
	DrillServer    DrillFault = "5xx"              // 500 at once
	DrillBusy      DrillFault = "503"              // 503 at once
	DrillLimited   DrillFault = "429"              // 429 with Retry-After
	DrillSlow      DrillFault = "slow_first_token" // the head of a stream at once, and no token after it
	DrillCut       DrillFault = "cut"              // the provider's own answer, broken off half-way
	DrillBadChunk  DrillFault = "bad_chunk"        // a malformed event, then nothing
)

// DrillFaults lists every fault.
var DrillFaults = []DrillFault{DrillBlackhole, DrillServer, DrillBusy, DrillLimited, DrillSlow, DrillCut, DrillBadChunk}

// MaxDrill is the longest that a drill may run: one that is forgotten must not become an outage.
const MaxDrill = 24 * time.Hour

// Check says what is wrong with a drill by itself; nil: nothing.
func (d *Drill) Check() error {
	targets := 0
	for _, name := range []string{d.Provider, d.Deployment, d.Region} {
		if name != "" {
			targets++
		}
	}
	switch {
	case targets != 1:
		return errors.New("a drill makes one thing fail: a provider, a deployment or a region")
	case !slices.Contains(DrillFaults, d.Fault):
		return fmt.Errorf("there is no fault %q; the faults are %s", d.Fault, drillFaultNames())
	case !(d.Share > 0 && d.Share <= 1): // not a number is neither
		return errors.New("the share of the attempts that fail is above 0 and at most 1")
	case !d.Ends.After(d.Starts):
		return errors.New("a drill ends after it starts")
	case d.Ends.Sub(d.Starts) > MaxDrill:
		return errors.New("a drill runs for 24 hours at most")
	}
	return nil
}

func drillFaultNames() string {
	names := make([]string, len(DrillFaults))
	for i, f := range DrillFaults {
		names[i] = string(f)
	}
	return strings.Join(names, ", ")
}

// OverAt says whether the drill has ended at a moment, by itself or because it was stopped.
func (d *Drill) OverAt(now time.Time) bool { return !d.Stopped.IsZero() || !now.Before(d.Ends) }

// Target is what fails: "provider alpha".
func (d *Drill) Target() string {
	switch {
	case d.Deployment != "":
		return "deployment " + d.Deployment
	case d.Provider != "":
		return "provider " + d.Provider
	default:
		return "region " + d.Region
	}
}

// ActiveAt says whether the drill runs at a moment.
func (d *Drill) ActiveAt(now time.Time) bool {
	return !now.Before(d.Starts) && now.Before(d.Ends) && d.Stopped.IsZero()
}

// Hits says whether the drill is about a deployment of a provider.
func (d *Drill) Hits(p *Provider, deployment string) bool {
	switch {
	case d.Deployment != "":
		return d.Deployment == deployment
	case d.Provider != "":
		return d.Provider == p.Name
	default:
		return d.Region != "" && d.Region == p.Region
	}
}
