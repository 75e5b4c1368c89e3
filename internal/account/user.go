package account

import (
	"errors"
	"time"
)

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

// Subject is who a user is at an OpenID provider.
type Subject struct{ Issuer, Subject string }

// UserRecord is a user with all that is kept of him.
type UserRecord struct {
	User
	Password Secret // its hash, with salt and parameters; empty: he has none
	TOTP     Secret // the secret of his authenticator, base32; in use only when SecondFactor
	// TOTPStep is the time step of the last code that was used: no code counts twice.
	TOTPStep    int64
	Recovery    []KeyHash // of the codes for when the authenticator is lost
	Subjects    []Subject
	Memberships []Membership // by organization
	// Version is that of the stored row, raised by every change; 0: there is no row yet.
	Version int64
}

// UserRef names a user by one of its fields.
type UserRef struct {
	ID, Email string
	Subject   Subject
}

// UserFilter selects users, by e-mail address. An empty field matches everything.
type UserFilter struct {
	Organization string
	After        string // an e-mail address: those that follow it
	Limit        int    // at most; 0: all
}

// NewSession is a session with the hash of its token.
type NewSession struct {
	Session
	Hash KeyHash
}

// TicketKind is what a link that works once is for.
type TicketKind string

// The kinds of tickets.
const (
	SetupTicket      TicketKind = "setup"      // to become the first owner
	InvitationTicket TicketKind = "invitation" // to join an organization
	ResetTicket      TicketKind = "reset"      // to set a password anew
)

// Ticket is what stands behind a link that works once. The link's secret is kept as a hash only.
type Ticket struct {
	Hash         KeyHash
	ID           string // stable and not secret: ticket_...
	Kind         TicketKind
	UserID       string // of a reset
	Organization string // of an invitation, with Role and Email
	Role         Role
	Email        string
	By           string // who made it, in words
	CreatedAt    time.Time
	Expires      time.Time // zero: never
}

// Membering is one user's place in one organization.
type Membering struct{ UserID, Organization string }

// UserChange is what one act does to accounts. All of it is done, or nothing.
type UserChange struct {
	// At is when; sessions and tickets that are over by then are removed as well.
	At time.Time
	// UseTicket, when not zero, has to be there and is removed: ErrNoTicket.
	UseTicket KeyHash
	// First says that there must not be any user yet: ErrUsersExist.
	First bool
	// PutUsers are created (Version 0) or replaced, if their version is still the stored one: ErrUserStale. Their
	// memberships are not touched, their subjects are. ErrEmailTaken: another user has the address.
	PutUsers          []UserRecord
	PutMemberships    []Membership
	DeleteMemberships []Membering
	PutSessions       []NewSession
	DeleteSessions    []string // by id
	// EndSessions ends all sessions of a user; but for EndSessionsBut, an id.
	EndSessions, EndSessionsBut string
	PutTickets                  []Ticket
	DeleteTickets               []string // by id
	// DeleteTicketsOf removes all reset tickets of a user.
	DeleteTicketsOf string
	// OwnedAfter is an organization that has to have an owner afterwards: ErrLastOwner.
	OwnedAfter string
}

// The errors of what is asked of stored accounts.
var (
	ErrNoUser     = errors.New("there is no such user")
	ErrNoSession  = errors.New("there is no such session")
	ErrNoTicket   = errors.New("there is no such ticket")
	ErrUsersExist = errors.New("there are users already")
	ErrUserStale  = errors.New("the user has changed meanwhile")
	ErrEmailTaken = errors.New("another user has this e-mail address")
	ErrLastOwner  = errors.New("the organization would be left without an owner")
)
