package catalog

import (
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
	DrillSlow      DrillFault = "slow_first_token" // the first token comes after the first-token deadline
	DrillCut       DrillFault = "cut"              // the answer breaks off half-way
	DrillBadChunk  DrillFault = "bad_chunk"        // a malformed event, then nothing
)

// DrillFaults lists every fault.
var DrillFaults = []DrillFault{DrillBlackhole, DrillServer, DrillBusy, DrillLimited, DrillSlow, DrillCut, DrillBadChunk}

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
