// Package control holds the use cases of the control plane. Each one reads what is declared, decides on
// a snapshot.Change, validates it by compiling the outcome together with the configuration file,
// commits it at the revision that it read, and signals the other replicas. When somebody else was
// faster, all of that is done again. Errors are *fault.Error.
package control

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"shareai/internal/account"
	"shareai/internal/audit"
	"shareai/internal/cluster"
	"shareai/internal/fault"
	"shareai/internal/snapshot"
)

// Rows are the declarations in the store.
type Rows interface {
	// Load returns every declaration and the revision they have.
	Load(ctx context.Context) (snapshot.Spec, int64, error)
	// Commit applies a change that was validated at a revision, and logs what was done with it. The error is
	// snapshot.ErrStale, and nothing is changed, when the revision has moved since.
	Commit(ctx context.Context, at int64, change snapshot.Change, acts ...audit.Act) (int64, error)
}

// Publisher tells the other replicas to look again.
type Publisher interface {
	Publish(ctx context.Context, topic string) error
}

// Options are what the use cases work with.
type Options struct {
	Rows Rows
	// File returns what the configuration file declares. Nil: nothing.
	File func() snapshot.Spec
	// Nodes are the tokens of nodes in the store, and Log is the audit log for what changes no declaration. Both are
	// needed by the use cases of nodes alone.
	Nodes NodeRows
	Log   Log
	// Signals may be nil: the replicas notice by their own poll.
	Signals Publisher
	// Actor does what is asked for in a context without an actor of its own.
	Actor audit.Actor
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// Logger may be nil: nothing is logged.
	Logger *slog.Logger
}

// Control runs the use cases. Its methods may be called by many goroutines at once.
type Control struct {
	o        Options
	refusals refusals
	paces    *Paces // of what nodes change themselves
}

// New makes a Control.
func New(o Options) *Control {
	if o.File == nil {
		o.File = func() snapshot.Spec { return snapshot.Spec{} }
	}
	if o.Signals == nil {
		o.Signals = new(cluster.Memory)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Control{o: o, paces: NewPaces(nodeChangesAtOnce, nodeChangeEvery)}
}

// maxTries bounds how often a change is made again because somebody else was faster.
const maxTries = 20

// act says in the audit log what a change is.
type act struct {
	name    string
	subject *string // read when it is decided what to do
}

// change makes one change. decide gets everything that is declared and returns what to do, or nil when
// there is nothing to do; it is called again when the declarations have changed meanwhile.
func (c *Control) change(ctx context.Context, a act, decide decision) error {
	return c.changeBy(ctx, c.o.Rows.Commit, a, decide)
}

// decision says what to do with what is declared; nil: nothing.
type decision func(declared snapshot.Spec) (*snapshot.Change, error)

// committing is Rows.Commit, or what stands for it.
type committing func(ctx context.Context, at int64, change snapshot.Change, acts ...audit.Act) (int64, error)

// changeBy is change with another way to commit.
func (c *Control) changeBy(ctx context.Context, commit committing, a act, decide decision) error {
	for range maxTries {
		rows, at, err := c.o.Rows.Load(ctx)
		if err != nil {
			return fault.From(err)
		}
		file := c.o.File()
		change, err := decide(snapshot.Join(file, rows))
		if err != nil {
			return fault.From(err)
		}
		if change == nil {
			return nil
		}
		if broken := breaks(file, rows, *change); len(broken) > 0 {
			return fault.New(fault.Invalid, "invalid_change", "This can not be done: "+broken.Error())
		}
		entry := audit.Act{At: c.o.Now(), Who: audit.ActorOf(ctx, c.o.Actor), Name: a.name, Subject: *a.subject}
		if entry.Before, entry.After, err = Differences(rows, change.Apply(rows)); err != nil {
			return fault.From(err)
		}
		switch _, err := commit(ctx, at, *change, entry); {
		case err == nil:
			c.signal(ctx)
			return nil
		case !errors.Is(err, snapshot.ErrStale):
			return fault.From(err)
		}
	}
	return fault.New(fault.Conflict, "declarations_busy", "The configuration is being changed by others all the time. Try again.")
}

// breaks returns the problems that the declarations have after a change and did not have before. What
// was broken already is no reason to refuse: the change may be a part of the repair.
func breaks(file, rows snapshot.Spec, change snapshot.Change) snapshot.Problems {
	after := problems(snapshot.Join(file, change.Apply(rows)))
	if len(after) == 0 {
		return nil
	}
	known := map[string]bool{}
	for _, p := range problems(snapshot.Join(file, rows)) {
		known[p.String()] = true
	}
	var broken snapshot.Problems
	for _, p := range after {
		if !known[p.String()] {
			broken = append(broken, p)
		}
	}
	return broken
}

func problems(spec snapshot.Spec) snapshot.Problems {
	_, err := snapshot.Compile(spec)
	var found snapshot.Problems
	if err != nil && !errors.As(err, &found) {
		found.Found("", nil, "%s", err)
	}
	return found
}

// signal tells the other replicas. The change is made: neither a caller that leaves nor a Redis that is
// away undoes it.
func (c *Control) signal(ctx context.Context) {
	if err := c.o.Signals.Publish(context.WithoutCancel(ctx), cluster.TopicSnapshot); err != nil {
		c.o.Logger.WarnContext(ctx, "the other replicas take the change over at their next poll", "error", err)
	}
}

// CreateOrganization adds an organization.
func (c *Control) CreateOrganization(ctx context.Context, o account.Organization) error {
	if err := checkName("organization", o.Name); err != nil {
		return err
	}
	o.Origin = account.FromDatabase
	return c.change(ctx, act{"organization.create", &o.Name}, func(declared snapshot.Spec) (*snapshot.Change, error) {
		if hasOrganization(declared, o.Name) {
			return nil, exists("organization", o.Name)
		}
		return &snapshot.Change{Put: snapshot.Spec{Organizations: []account.Organization{o}}}, nil
	})
}

// CreateProject adds a project to an organization that exists.
func (c *Control) CreateProject(ctx context.Context, p account.Project) error {
	if err := checkName("organization", p.Organization); err != nil {
		return err
	}
	if err := checkName("project", p.Name); err != nil {
		return err
	}
	p.Origin = account.FromDatabase
	address := p.Organization + "/" + p.Name
	return c.change(ctx, act{"project.create", &address}, func(declared snapshot.Spec) (*snapshot.Change, error) {
		if !hasOrganization(declared, p.Organization) {
			return nil, missing("organization", p.Organization)
		}
		if hasProject(declared, p.Organization, p.Name) {
			return nil, exists("project", p.Organization+"/"+p.Name)
		}
		return &snapshot.Change{Put: snapshot.Spec{Projects: []account.Project{p}}}, nil
	})
}

// HasOrganization says whether an organization is declared, in the file or in the store.
func (c *Control) HasOrganization(ctx context.Context, name string) (bool, error) {
	rows, _, err := c.o.Rows.Load(ctx)
	if err != nil {
		return false, fault.From(err)
	}
	return hasOrganization(snapshot.Join(c.o.File(), rows), name), nil
}

func hasOrganization(spec snapshot.Spec, name string) bool {
	for i := range spec.Organizations {
		if spec.Organizations[i].Name == name {
			return true
		}
	}
	return false
}

func hasProject(spec snapshot.Spec, organization, name string) bool {
	for i := range spec.Projects {
		if p := &spec.Projects[i]; p.Organization == organization && p.Name == name {
			return true
		}
	}
	return false
}

func checkName(what, name string) error {
	if err := account.CheckName(name); err != nil {
		return fault.New(fault.Invalid, "invalid_name", "The "+what+"'s name is not allowed: "+err.Error()+".").About(what)
	}
	return nil
}

func exists(what, name string) *fault.Error {
	return fault.New(fault.Conflict, what+"_exists", "The "+what+" "+name+" exists already.").About(what)
}

func missing(what, name string) *fault.Error {
	return fault.New(fault.NotFound, what+"_not_found",
		"There is no "+what+" "+name+". Check the name, or create it first.").About(what)
}
