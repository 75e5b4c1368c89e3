package account

import (
	"fmt"
	"slices"
)

// Scope is something that an API key may do.
type Scope string

// The scopes.
const (
	ScopeInference Scope = "inference" // call /v1
	ScopeDrills    Scope = "drills"    // list, start and stop drills of the key's project
	ScopeRead      Scope = "read"      // see what a viewer of the key's organization sees
	ScopeAdmin     Scope = "admin"     // do what an admin of the key's organization does
)

// Scopes lists every scope.
var Scopes = []Scope{ScopeInference, ScopeDrills, ScopeRead, ScopeAdmin}

// CheckScope says whether a scope exists.
func CheckScope(s Scope) error {
	if !slices.Contains(Scopes, s) {
		return fmt.Errorf("there is no scope %q; the scopes are inference, drills, read and admin", s)
	}
	return nil
}

// May says whether the key has a scope. One that names no scopes is for inference alone.
func (k *APIKey) May(s Scope) bool {
	if len(k.Scopes) == 0 {
		return s == ScopeInference
	}
	return slices.Contains(k.Scopes, s)
}
