package account

import "time"

// User is a person. The e-mail address is the identity under which he signs in, in lower case.
type User struct {
	ID         string // stable and not secret: user_...
	Email      string
	Name       string // as he wants to be called; may be empty
	CreatedAt  time.Time
	SignedInAt time.Time // the last time; zero: never
	// SecondFactor says that signing in with a password asks for a code as well.
	SecondFactor bool
	// Disabled users can not sign in. Zero: not disabled.
	DisabledAt time.Time
}

// Membership is a user's role in an organization.
type Membership struct {
	UserID       string
	Organization string
	Role         Role
	Since        time.Time
}

// Session is a user's being signed in with one browser or program. Its token is kept as a hash only.
type Session struct {
	ID        string // stable and not secret: session_...
	UserID    string
	CreatedAt time.Time
	SeenAt    time.Time // to the minute
	Expires   time.Time // whatever happens
	Method    string    // password, oidc:NAME, invitation, setup
	From      string    // the client's address at the start
	Client    string    // its User-Agent, cut
}

// SignedIn is a session with whose it is.
type SignedIn struct {
	Session     Session
	User        User
	Memberships []Membership // by organization
}

// RoleIn is the user's role in an organization; empty: he is no member.
func (s *SignedIn) RoleIn(organization string) Role {
	for _, m := range s.Memberships {
		if m.Organization == organization {
			return m.Role
		}
	}
	return ""
}
