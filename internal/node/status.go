package node

import (
	"time"

	"shareai/internal/catalog"
)

// Status is what the agent says of itself to its owner.
type Status struct {
	Name         string    `json:"name"`
	Organization string    `json:"organization"`
	Node         string    `json:"node"`
	Gateways     []string  `json:"gateways"`
	Version      string    `json:"version"`
	Started      time.Time `json:"started"`

	Phase Phase      `json:"phase"`
	Why   Reason     `json:"why"`
	Since time.Time  `json:"since"`
	Until *time.Time `json:"until,omitempty"` // of leaving

	Links   []LinkStatus   `json:"links"`
	Engines []EngineStatus `json:"engines"`
	Missing []string       `json:"missing,omitempty"` // engines that were named and are not there, with the reason
	Load    LoadStatus     `json:"load"`
	Tokens  TokenStatus    `json:"tokens"`
	Rules   RulesStatus    `json:"rules"`
	Machine MachineStatus  `json:"machine"`
}

// LinkStatus is a link to a replica of the gateway.
type LinkStatus struct {
	Gateway string    `json:"gateway"`
	Replica string    `json:"replica"`
	Opened  time.Time `json:"opened"`
	Running int       `json:"running"`
	Leaving bool      `json:"leaving,omitempty"`
}

// EngineStatus is an engine with its models.
type EngineStatus struct {
	Name    string        `json:"name"`
	Kind    Kind          `json:"kind"`
	URL     string        `json:"url"`
	Version string        `json:"version,omitempty"`
	Slots   int           `json:"slots"`
	Models  []ModelStatus `json:"models"`
}

// ModelStatus is a model as it is advertised.
type ModelStatus struct {
	ID           string               `json:"id"`
	Name         string               `json:"name"`
	Context      int64                `json:"context,omitempty"`
	Capabilities []catalog.Capability `json:"capabilities,omitempty"`
}

// LoadStatus is how many requests there are, and how many there may be at once.
type LoadStatus struct {
	Capacity int `json:"capacity"` // 0: none are taken
	Running  int `json:"running"`
	Queued   int `json:"queued"`
}

// TokenStatus is what was used today, of what may be.
type TokenStatus struct {
	Today int64 `json:"today"`
	Limit int64 `json:"limit,omitempty"` // 0: none
}

// RulesStatus is the owner's rules.
type RulesStatus struct {
	Mode  Mode     `json:"serve"`
	Hours []string `json:"hours,omitempty"`
}

// MachineStatus is what the sensors said last; what is not there can not be read, or is not asked for.
type MachineStatus struct {
	CPU     *float64 `json:"cpu,omitempty"` // share of others than the engines
	GPU     *float64 `json:"gpu,omitempty"`
	Away    *float64 `json:"away_seconds,omitempty"`
	Battery *bool    `json:"on_battery,omitempty"`
}

// viewMachine leaves out what can not be read.
func viewMachine(r Readings) MachineStatus {
	var m MachineStatus
	if r.CPU != Unknown {
		m.CPU = &r.CPU
	}
	if r.GPU != Unknown {
		m.GPU = &r.GPU
	}
	if r.Away >= 0 {
		seconds := r.Away.Seconds()
		m.Away = &seconds
	}
	if r.Power != PowerUnknown {
		battery := r.Power == Battery
		m.Battery = &battery
	}
	return m
}

// viewEngines are engines with their models, under the ids that the gateway knows.
func viewEngines(engines []*engine) []EngineStatus {
	views := make([]EngineStatus, 0, len(engines))
	known := advertised("", engines).Models
	for _, e := range engines {
		v := EngineStatus{Name: e.name, Kind: e.kind, URL: e.address.url(""), Version: e.version, Slots: e.slots, Models: []ModelStatus{}}
		for i := range known {
			if m := &known[i]; m.Engine == e.name {
				v.Models = append(v.Models, ModelStatus{ID: m.ID, Name: m.Name, Context: m.Context, Capabilities: m.Capabilities})
			}
		}
		views = append(views, v)
	}
	return views
}
