// Package account says who is asking: organizations, their projects, and the API keys with which a
// project's programs authenticate. Its rules are pure; rows live in store, the compiled view in
// snapshot.
package account

import (
	"path"
	"time"
)

// Origin says where a thing was declared. What a file declares can not be changed elsewhere.
type Origin string

// The origins.
const (
	FromFile     Origin = "file"
	FromDatabase Origin = "database"
)

// Organization owns projects. Its name is its identity: short, lower-case, never reused.
type Organization struct {
	Name        string
	Limits      Limits
	Budgets     []Budget
	LabelLimits []LabelLimits
	Shares      []Share
	// Operator says that it operates the installation: its admins administer what all organizations share.
	Operator bool
	// Community says that nodes which other organizations share may serve it, where a policy allows that.
	Community bool
	Origin    Origin
}

// Project groups API keys under an organization. Its name is unique within the organization.
type Project struct {
	Organization string
	Name         string
	Labels       map[string]string
	Limits       Limits
	Budgets      []Budget
	Origin       Origin
}

// APIKey is a credential of ours. Only its hash is kept.
type APIKey struct {
	ID           string // stable and not secret: key_...
	Name         string
	Organization string
	Project      string
	Hash         KeyHash
	Hint         string   // the first and last characters, for people to tell keys apart
	Models       []string // patterns; "*" matches any run of characters but "/"; none means all
	Pin          Pin      // zero: not pinned
	Scopes       []Scope  // none: inference only
	Limits       Limits
	Budgets      []Budget
	CreatedAt    time.Time // zero for keys of the file
	Expires      time.Time // zero: never
	RevokedAt    time.Time // zero: not revoked
	Origin       Origin
}

// Pin locks a request or a key to one provider and, when Model is set, to that provider's model id.
type Pin struct {
	Provider string `json:"provider"`
	Model    string `json:"model,omitempty"`
}

// Set says whether anything is pinned.
func (p Pin) Set() bool { return p.Provider != "" }

// String is the form in which people write it: alpha, or alpha/model.
func (p Pin) String() string {
	if p.Model == "" {
		return p.Provider
	}
	return p.Provider + "/" + p.Model
}

// State is what a key is worth at a moment.
type State string

// The states of a key.
const (
	Active  State = "active"
	Expired State = "expired"
	Revoked State = "revoked"
)

// StateAt returns the key's state at a moment. Revocation wins over expiry.
func (k *APIKey) StateAt(now time.Time) State {
	switch {
	case !k.RevokedAt.IsZero() && !now.Before(k.RevokedAt):
		return Revoked
	case !k.Expires.IsZero() && !now.Before(k.Expires):
		return Expired
	default:
		return Active
	}
}

// Allows says whether the key may use a client-facing model name.
func (k *APIKey) Allows(model string) bool {
	if len(k.Models) == 0 {
		return true
	}
	for _, pattern := range k.Models {
		if pattern == "*" || pattern == model {
			return true
		}
		if ok, err := path.Match(pattern, model); err == nil && ok {
			return true
		}
	}
	return false
}

// Principal is an authenticated caller.
type Principal struct {
	Key          *APIKey
	Project      *Project
	Organization *Organization
	// Bounds are the limits and budgets that hold for the caller, whatever the model; nil for most.
	Bounds []Bound
	// Part is what the caller may have of a contended deployment.
	Part Part
}
