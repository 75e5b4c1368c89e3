package node

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"shareai/internal/tunnel"
)

// rotateAfter is the age at which a key is replaced.
const rotateAfter = 60 * 24 * time.Hour

// rotateAgain is the least time between two attempts at it.
const rotateAgain = time.Hour

// rotateTime bounds the replacement of a key.
const rotateTime = 20 * time.Second

// agent is a running agent.
type agent struct {
	settings Settings
	dir      folder
	log      *slog.Logger
	started  time.Time

	board   tunnel.Board
	engines atomic.Pointer[[]*engine]
	gate    *gate
	tokens  *dayTokens
	finder  *finder
	look    chan struct{} // an engine has failed: look again; room for one
	stir    chan struct{} // something that decides about serving has changed; room for one

	rotating sync.Mutex // one key at a time
	stepping sync.Mutex // one decision at a time, with what follows from it

	mu       sync.Mutex
	who      identity
	dialer   *tunnel.Dialer
	machine  *Machine
	decision Decision
	readings Readings
	sensed   bool
	scanned  bool
	paused   bool
	atOnce   bool // the pause ends what runs
	missing  []string
}

// Run runs an agent until ctx ends; then requests that run may end within Settings.StopGrace. The error is a *Problem
// when there is something that the owner can do about it.
func Run(ctx context.Context, s Settings, getenv func(string) (string, bool)) error {
	s, err := s.complete(getenv)
	if err != nil {
		return err
	}
	dir := folder(s.DataDir)
	if err := dir.open(); err != nil {
		return err
	}
	given, err := parseAddresses(s.Engines)
	if err != nil {
		return err
	}
	socket, err := dir.listen(ctx) // there is only one agent from here on
	if err != nil {
		return err
	}
	defer func() { _ = socket.Close() }()
	tokens, err := openTokens(dir, s.DailyTokens)
	if err != nil {
		return err
	}
	a := newAgent(s, dir, tokens)
	if err := a.enrol(ctx); err != nil {
		return err
	}
	a.finder = newFinder(&a.settings, given, a.who.dial(s.Gateway))
	return a.run(ctx, socket)
}

func newAgent(s Settings, dir folder, tokens *dayTokens) *agent {
	a := &agent{
		settings: s, dir: dir, log: s.Log, started: time.Now(), tokens: tokens,
		look: make(chan struct{}, 1), stir: make(chan struct{}, 1),
		machine: NewMachine(s.Rules), paused: dir.has(pausedFile),
		readings: Readings{CPU: Unknown, GPU: Unknown, Away: nobody},
	}
	a.engines.Store(&[]*engine{})
	a.gate = newGate(a.publishLoad)
	a.decision = Decision{Phase: Resting, Why: Starting, Since: a.started}
	return a
}

func parseAddresses(engines []EngineAddress) ([]address, error) {
	var given []address
	for _, e := range engines {
		a, err := parseAddress(e)
		if err != nil {
			return nil, err
		}
		given = append(given, a)
	}
	return given, nil
}

// enrol loads who the node is, or makes the machine a node.
func (a *agent) enrol(ctx context.Context) error {
	who, err := loadIdentity(a.dir)
	if err != nil {
		return err
	}
	if who == nil {
		if strings.HasPrefix(a.settings.Gateway, "http://") && localPort(a.settings.Gateway) == 0 {
			a.log.Warn("the gateway's address begins with http: whoever listens on the way reads the token and every prompt", "gateway", a.settings.Gateway)
		}
		if who, err = enrolNode(ctx, &a.settings, a.dir); err != nil {
			return err
		}
		a.log.Info("enrolled", "node", who.Name, "organization", who.Organization, "gateway", who.Gateway)
	} else if !a.settings.Token.Empty() {
		a.log.Info("this machine is a node already; the token was not used", "node", who.Name, "organization", who.Organization)
	}
	a.who = *who
	return nil
}

// run does the work. The owner is answered at the socket.
func (a *agent) run(ctx context.Context, socket net.Listener) error {
	roots, err := a.settings.roots()
	if err != nil {
		return err
	}
	dialer, err := tunnel.NewDialer(tunnel.DialerOptions{
		Gateways: a.who.dial(a.settings.Gateway), Identity: a.who.forLink(), Board: &a.board, RootCAs: roots, Log: a.log,
		DrainTime: a.settings.StopGrace, Engine: a.handler(),
	})
	if err != nil {
		return &Problem{Message: "the link can not be made: " + err.Error(), Hint: "is --gateway right?", Cause: err}
	}
	a.dialer = dialer
	a.log.Info("the agent is running", "node", a.who.Name, "organization", a.who.Organization,
		"gateway", strings.Join(a.who.dial(a.settings.Gateway), " "), "serve", string(a.settings.Rules.Mode), "data_dir", string(a.dir))
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx)) // what serves goes on while the links drain
	var all sync.WaitGroup
	for _, part := range []func(context.Context){a.scan, a.sense, a.decide, a.renew} {
		all.Go(func() { part(inner) })
	}
	owner := a.ownerServer()
	all.Go(func() { _ = owner.Serve(socket) })
	err = dialer.Run(ctx)
	if ctx.Err() != nil {
		a.log.Info("stopping")
	}
	cancel()
	closed := owner.Close()
	all.Wait()
	a.finder.prober.client.CloseIdleConnections()
	return errors.Join(a.farewell(err), a.tokens.keep(), closed)
}

// farewell puts into words why the gateway does not want the agent any more.
func (a *agent) farewell(err error) error {
	switch {
	case errors.Is(err, tunnel.ErrRevoked):
		return &Problem{
			Message: "the gateway has revoked this node: " + a.who.Name + " of " + a.who.Organization,
			Hint: "if that was a mistake, make a new token in the console or with shareai nodes token, remove " + a.dir.path(identityFile) +
				", and start again with --token", Cause: err, Final: true,
		}
	case errors.Is(err, tunnel.ErrSuperseded):
		return &Problem{
			Message: "another agent uses the key of this node, so this one has stopped",
			Hint: "if the disk or the data directory was copied, remove " + a.dir.path(identityFile) +
				" on one of the two machines and enrol it with a token of its own", Cause: err, Final: true,
		}
	default:
		return err
	}
}

// handler answers what comes over the links.
func (a *agent) handler() *server {
	return &server{
		gate: a.gate, engines: &a.engines, transport: a.finder.prober.client.Transport, log: a.log,
		spend: func(n int64) {
			a.tokens.add(time.Now(), n)
			nudge(a.stir)
		},
		failed: func() { nudge(a.look) },
	}
}

// nudge wakes whoever waits; one nudge is as good as many.
func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// publishLoad tells the gateway what the gate holds.
func (a *agent) publishLoad() {
	a.board.Update(func(s *tunnel.State) {
		l := a.gate.load() // inside, so that the last word is the latest
		s.Capacity, s.InFlight, s.Queued = l.capacity, l.running, l.queued
	})
	nudge(a.stir)
}

// scan keeps the list of engines.
func (a *agent) scan(ctx context.Context) {
	tick := time.NewTicker(a.settings.pace.scan)
	defer tick.Stop()
	for ctx.Err() == nil {
		engines := a.finder.scan(ctx)
		a.engines.Store(&engines)
		a.mu.Lock()
		a.missing, a.scanned = a.finder.missing(), true
		a.mu.Unlock()
		now := advertised(a.settings.Version, engines)
		a.board.Update(func(s *tunnel.State) { s.Advertised = now })
		nudge(a.stir)
		if err := a.tokens.keep(); err != nil {
			a.log.Warn("the count of tokens can not be kept", "error", err)
		}
		select {
		case <-tick.C:
		case <-a.look:
		case <-ctx.Done():
		}
	}
}

// sense reads the machine, where somebody wants to know.
func (a *agent) sense(ctx context.Context) {
	if a.settings.Rules.Mode != Idle {
		return
	}
	sensors := a.settings.Sensors
	if sensors == nil {
		sensors = newMachineSensors()
	}
	tick := time.NewTicker(a.settings.pace.sense)
	defer tick.Stop()
	for ctx.Err() == nil {
		readings := sensors.Read(ctx, Work{Ports: enginePorts(*a.engines.Load()), Running: a.gate.load().running})
		a.mu.Lock()
		a.readings, a.sensed = readings, true
		a.mu.Unlock()
		nudge(a.stir)
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// enginePorts are the ports of engines on this machine.
func enginePorts(engines []*engine) []uint16 {
	var ports []uint16
	for _, e := range engines {
		if port := localPort(e.address.origin); port != 0 {
			ports = append(ports, port)
		}
	}
	return ports
}

// decide lets the machine of states move, and the gate follow.
func (a *agent) decide(ctx context.Context) {
	tick := time.NewTicker(a.settings.pace.step)
	defer tick.Stop()
	for {
		a.step(time.Now())
		select {
		case <-tick.C:
		case <-a.stir:
		case <-ctx.Done():
			a.gate.cut() // the links are gone
			return
		}
	}
}

func (a *agent) step(now time.Time) {
	a.stepping.Lock()
	defer a.stepping.Unlock()
	engines := *a.engines.Load()
	load := a.gate.load()
	a.mu.Lock()
	before := a.decision
	decision := a.machine.Step(Circumstances{
		Now: now, Readings: a.readings, Stopped: a.stopped(now, engines), AtOnce: a.atOnce, Running: load.running,
	})
	a.decision = decision
	a.mu.Unlock()
	limit := 0
	if decision.Phase == Serving {
		limit = a.limit(engines)
	}
	a.gate.set(limit)
	if decision.Cut {
		a.gate.cut()
	}
	if decision.Phase == before.Phase && decision.Why == before.Why {
		return
	}
	a.board.Update(func(s *tunnel.State) { s.Idle = string(decision.Why) })
	a.log.Info("the node is "+string(decision.Phase), "why", decision.Why.Text(), "running", load.running)
}

// stopped says why the node does not serve, whatever its mode. The caller holds the lock.
func (a *agent) stopped(now time.Time, engines []*engine) Reason {
	switch {
	case a.paused:
		return Paused
	case !a.scanned || a.settings.Rules.Mode == Idle && !a.sensed:
		return Starting
	case a.limit(engines) == 0:
		return NoEngine
	case a.tokens.spent(now):
		return NoTokens
	default:
		return ""
	}
}

// limit is how many requests the node takes at once: what its engines work on, within the owner's cap.
func (a *agent) limit(engines []*engine) int {
	sum := 0
	for _, e := range engines {
		if len(e.models) > 0 {
			sum += e.slots
		}
	}
	if sum == 0 {
		return 0
	}
	return cmp.Or(a.settings.Concurrency, sum)
}

// renew replaces the key when it is old.
func (a *agent) renew(ctx context.Context) {
	for {
		a.mu.Lock()
		due := a.who.KeyMade.Add(rotateAfter)
		a.mu.Unlock()
		timer := time.NewTimer(max(time.Until(due), rotateAgain))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		if err := a.rotate(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("the node's key could not be replaced; it goes on with the old one", "error", err)
		}
	}
}

// rotate replaces the key.
func (a *agent) rotate(ctx context.Context) error {
	a.rotating.Lock()
	defer a.rotating.Unlock()
	ctx, cancel := context.WithTimeout(ctx, rotateTime)
	defer cancel()
	next, err := a.dialer.Rotate(ctx)
	if err != nil {
		return err
	}
	a.mu.Lock()
	who := a.who
	a.mu.Unlock()
	who.Key, who.Private, who.KeyMade = next.Key, next.Private, time.Now().UTC()
	if err := a.dir.write(identityFile, who); err != nil {
		return err
	}
	a.dialer.Adopt(next) // not before it is kept: the gateway forgets the old key
	a.mu.Lock()
	a.who = who
	a.mu.Unlock()
	a.log.Info("the node has a new key", "key", who.Key)
	return nil
}

// pause makes the node take nothing more, also after a restart.
func (a *agent) pause(atOnce bool) error {
	if err := os.WriteFile(a.dir.path(pausedFile), nil, 0o600); err != nil {
		return err
	}
	a.mu.Lock()
	a.paused, a.atOnce = true, atOnce
	a.mu.Unlock()
	a.step(time.Now())
	return nil
}

func (a *agent) resume() error {
	if err := a.dir.remove(pausedFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	a.mu.Lock()
	a.paused, a.atOnce = false, false
	a.mu.Unlock()
	a.step(time.Now())
	return nil
}

// status is what the owner sees.
func (a *agent) status() Status {
	links := a.dialer.Links()
	load := a.gate.load()
	a.mu.Lock()
	defer a.mu.Unlock()
	s := Status{
		Name: a.who.Name, Organization: a.who.Organization, Node: a.who.Node, Gateways: a.who.dial(a.settings.Gateway),
		Version: a.settings.Version, Started: a.started,
		Phase: a.decision.Phase, Why: a.decision.Why, Since: a.decision.Since,
		Links: []LinkStatus{}, Engines: viewEngines(*a.engines.Load()), Missing: a.missing,
		Load:   LoadStatus{Capacity: load.capacity, Running: load.running, Queued: load.queued},
		Tokens: TokenStatus{Today: a.tokens.today(time.Now()), Limit: a.settings.DailyTokens},
		Rules:  RulesStatus{Mode: a.settings.Rules.Mode}, Machine: viewMachine(a.readings),
	}
	if until := a.decision.Until; !until.IsZero() {
		s.Until = &until
	}
	for _, w := range a.settings.Rules.Hours {
		s.Rules.Hours = append(s.Rules.Hours, w.String())
	}
	for _, l := range links {
		s.Links = append(s.Links, LinkStatus{Gateway: l.Gateway, Replica: l.Replica, Opened: l.Opened, Running: l.Running, Leaving: l.Leaving})
	}
	return s
}
