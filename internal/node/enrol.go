package node

import "context"

// Enrolled is what a machine is to its gateway.
type Enrolled struct {
	Name         string
	Organization string
	Gateways     []string // that are dialled
	Before       bool     // it was a node already, and the token was not used
}

// Enrol makes the machine a node if it is none, and serves nothing. It is for what starts the agent later. The error is
// a *Problem when there is something that the owner can do about it.
func Enrol(ctx context.Context, s Settings, getenv func(string) (string, bool)) (Enrolled, error) {
	s, err := s.complete(getenv)
	if err != nil {
		return Enrolled{}, err
	}
	dir := folder(s.DataDir)
	if err := dir.open(); err != nil {
		return Enrolled{}, err
	}
	if _, err := parseAddresses(s.Engines); err != nil {
		return Enrolled{}, err
	}
	who, err := loadIdentity(dir)
	if err != nil {
		return Enrolled{}, err
	}
	before := who != nil
	if !before {
		if who, err = enrolNode(ctx, &s, dir); err != nil {
			return Enrolled{}, err
		}
	}
	return Enrolled{Name: who.Name, Organization: who.Organization, Gateways: who.dial(s.Gateway), Before: before}, nil
}
