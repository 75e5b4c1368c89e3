package identity

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"net/mail"
	"strings"
	"time"

	"shareai/internal/account"
	"shareai/internal/audit"
	"shareai/internal/cluster"
	"shareai/internal/fault"
)

// Users are the rows of users and of links.
type Users interface {
	// User returns a user, or account.ErrNoUser.
	User(ctx context.Context, ref account.UserRef) (account.UserRecord, error)
	Users(ctx context.Context, f account.UserFilter) ([]account.UserRecord, error)
	// Ticket returns what stands behind a link, or account.ErrNoTicket.
	Ticket(ctx context.Context, hash account.KeyHash) (account.Ticket, error)
	Tickets(ctx context.Context, kind account.TicketKind, organization string) ([]account.Ticket, error)
	// ChangeUsers does all of a change and logs it, or nothing.
	ChangeUsers(ctx context.Context, c account.UserChange, acts ...audit.Act) error
}

// Sessions are the rows of sessions.
type Sessions interface {
	// SignedIn returns the session whose token has a hash, or account.ErrNoSession.
	SignedIn(ctx context.Context, hash account.KeyHash) (account.SignedIn, error)
	Sessions(ctx context.Context, userID string) ([]account.Session, error)
	TouchSession(ctx context.Context, id string, at time.Time) error
	// Audit logs what changes no row.
	Audit(ctx context.Context, acts ...audit.Act) error
}

// Organizations are what is declared.
type Organizations interface {
	// HasOrganization says whether an organization is declared.
	HasOrganization(ctx context.Context, name string) (bool, error)
	CreateOrganization(ctx context.Context, o account.Organization) error
	CreateProject(ctx context.Context, p account.Project) error
}

// Mailer sends e-mail.
type Mailer interface {
	// Send sends a message of plain text to one address.
	Send(ctx context.Context, to, subject, text string) error
}

// SignUp says who may become a user.
type SignUp string

// The ways to become a user.
const (
	SignUpOpen    SignUp = "open"    // whoever wants to, with an organization of his own
	SignUpInvited SignUp = "invited" // whoever an admin invites
	SignUpClosed  SignUp = "closed"  // nobody; the operator creates users
)

// Options are what the use cases work with.
type Options struct {
	Users         Users
	Sessions      Sessions
	Organizations Organizations
	// Meters count failed attempts; nil: in memory.
	Meters cluster.Meters
	// Mailer may be nil: no e-mail is sent, and links are shown to whoever makes them.
	Mailer Mailer
	// SignUp is SignUpInvited when empty.
	SignUp SignUp
	// PublicURL is where people find the console, without a slash at its end: for links in e-mails and single
	// sign-on. Empty: neither is possible.
	PublicURL string
	// Idle and Absolute bound a session: from its last use, and from its beginning. Zero: 7 and 30 days.
	Idle, Absolute time.Duration
	// Providers are those of single sign-on.
	Providers []Provider
	// Client speaks to providers. Nil: one with a time limit.
	Client *http.Client
	// Actor does what is asked for in a context without an actor of its own.
	Actor audit.Actor
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Logger may be nil: nothing is logged.
	Logger *slog.Logger
}

// The lifetimes.
const (
	defaultIdle     = 7 * 24 * time.Hour
	defaultAbsolute = 30 * 24 * time.Hour
	invitationTime  = 7 * 24 * time.Hour
	resetTime       = time.Hour
	touchEvery      = time.Minute
	providerTime    = 10 * time.Second
)

// Identity runs the use cases. Its methods may be called by many goroutines at once.
type Identity struct {
	o         Options
	hasher    *hasher
	pace      *pace
	providers map[string]*provider
	errands   chan func(context.Context)
}

// maxErrands bounds what waits for Run.
const maxErrands = 100

// New makes an Identity. Run has to run where e-mails are to be sent.
func New(o Options) *Identity {
	o.SignUp = cmp.Or(o.SignUp, SignUpInvited)
	o.Idle, o.Absolute = cmp.Or(o.Idle, defaultIdle), cmp.Or(o.Absolute, defaultAbsolute)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Client == nil {
		o.Client = &http.Client{Timeout: providerTime}
	}
	i := &Identity{
		o: o, hasher: newHasher(), pace: newPace(o.Meters, o.Logger), providers: map[string]*provider{},
		errands: make(chan func(context.Context), maxErrands),
	}
	for _, p := range o.Providers {
		i.providers[p.Name] = &provider{Provider: p}
	}
	return i
}

// Run sends e-mails until ctx ends.
func (i *Identity) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case errand := <-i.errands:
			errand(ctx)
		}
	}
}

// later leaves something to Run, so that the answer does not tell by its time whether there is something to do.
func (i *Identity) later(ctx context.Context, errand func(context.Context)) {
	who := audit.ActorOf(ctx, i.o.Actor)
	select {
	case i.errands <- func(ctx context.Context) { errand(audit.WithActor(ctx, who)) }:
	default:
		i.o.Logger.WarnContext(ctx, "an e-mail is not sent: too many wait")
	}
}

// mail sends a message; that it fails is for the log.
func (i *Identity) mail(ctx context.Context, to, subject, text string) {
	if err := i.o.Mailer.Send(ctx, to, subject, text); err != nil {
		i.o.Logger.ErrorContext(ctx, "an e-mail could not be sent", "subject", subject, "error", fault.Redact(err.Error()))
	}
}

// Mails says whether e-mails can be sent.
func (i *Identity) Mails() bool { return i.o.Mailer != nil && i.o.PublicURL != "" }

// SignUp says who may become a user.
func (i *Identity) SignUp() SignUp { return i.o.SignUp }

// PublicURL is where people find the console; empty: it is not known.
func (i *Identity) PublicURL() string { return i.o.PublicURL }

// Link is an address of the console with a token, for a person. Without a public URL it begins with a slash.
func (i *Identity) Link(page string, token account.Secret) account.Secret {
	return account.NewSecret(i.o.PublicURL + "/" + page + "#token=" + token.Reveal())
}

// now is the moment, as rows can hold it.
func (i *Identity) now() time.Time { return i.o.Now().UTC().Truncate(time.Microsecond) }

// act is something that is done now by whoever asks for it.
func (i *Identity) act(ctx context.Context, name, subject string) audit.Act {
	return audit.Act{At: i.now(), Who: audit.ActorOf(ctx, i.o.Actor), Name: name, Subject: subject}
}

// actOf is an act of a user about himself, who was nobody when he asked.
func (i *Identity) actOf(ctx context.Context, name string, u *account.User) audit.Act {
	a := i.act(ctx, name, u.ID)
	if a.Who.Kind == audit.Anonymous {
		a.Who = audit.Actor{Kind: audit.Member, ID: u.ID, Name: u.Email, From: a.Who.From}
	}
	return a
}

// maxTries bounds how often a change to a user is made again because somebody else was faster.
const maxTries = 10

// revise changes one user. decide is called again when he has changed meanwhile.
func (i *Identity) revise(ctx context.Context, ref account.UserRef, decide func(*account.UserRecord) (account.UserChange, []audit.Act, error)) error {
	for range maxTries {
		u, err := i.o.Users.User(ctx, ref)
		if err != nil {
			return explain(err)
		}
		change, acts, err := decide(&u)
		if err != nil {
			return err
		}
		change.At = i.now()
		change.PutUsers = append(change.PutUsers, u)
		if err := i.o.Users.ChangeUsers(ctx, change, acts...); !errors.Is(err, account.ErrUserStale) {
			return explain(err)
		}
	}
	return fault.New(fault.Conflict, "user_busy", "The account is being changed by others all the time. Try again.")
}

// explain turns what the rows say into words for people.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, account.ErrNoUser):
		return fault.New(fault.NotFound, "user_not_found", "There is no such user.")
	case errors.Is(err, account.ErrNoSession):
		return sessionEnded()
	case errors.Is(err, account.ErrNoTicket):
		return fault.New(fault.NotFound, "link_not_valid", "This link was used already, has expired, or was never valid. Ask for a new one.")
	case errors.Is(err, account.ErrUsersExist):
		return fault.New(fault.Conflict, "set_up_already", "This installation is set up already. Sign in.")
	case errors.Is(err, account.ErrEmailTaken):
		return fault.New(fault.Conflict, "email_taken", "A user with this e-mail address exists already. Sign in, or reset the password.").About("email")
	case errors.Is(err, account.ErrLastOwner):
		return fault.New(fault.Conflict, "last_owner", "The organization needs an owner. Make somebody else an owner first.")
	default:
		return fault.From(err)
	}
}

func sessionEnded() error {
	return fault.New(fault.Unauthenticated, "session_ended", "You are not signed in any more. Sign in again.")
}

// newToken makes what a cookie or a link holds: 256 random bits.
func newToken() account.Secret {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return account.NewSecret(base64.RawURLEncoding.EncodeToString(b[:]))
}

// maxEmail and maxName are in bytes.
const (
	maxEmail = 254
	maxName  = 100
)

// address reads an e-mail address, by which users are told apart.
func address(text string) (string, error) {
	text = strings.ToLower(strings.TrimSpace(text))
	parsed, err := mail.ParseAddress(text)
	if err != nil || parsed.Address != text || len(text) > maxEmail || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return "", fault.New(fault.Invalid, "invalid_email", "This is no e-mail address. It has the form name@example.org.").About("email")
	}
	return text, nil
}

func personName(text string) (string, error) {
	text = strings.TrimSpace(text)
	if len(text) > maxName || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", fault.New(fault.Invalid, "invalid_name", "A name has at most 100 characters and no line breaks.").About("name")
	}
	return text, nil
}
