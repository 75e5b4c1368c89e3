package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	netstat "github.com/shirou/gopsutil/v4/net"
)

// Discovery says where the agent looks for engines that the owner has not named.
type Discovery string

// The ways to look. All of them look at loopback only.
const (
	DiscoverAll   Discovery = "all"   // whatever listens; a server that is no engine is asked once
	DiscoverUsual Discovery = "usual" // the ports that engines listen on unless told otherwise
	DiscoverOff   Discovery = "off"
)

// usualPorts are those of engines that nobody configured: Ollama, llama.cpp, vLLM, LM Studio.
var usualPorts = []uint16{11434, 8080, 8000, 1234}

const (
	// maxFailures is how many probes in a row an engine may leave unanswered: one that computes on all processors is slow
	// to say what it has.
	maxFailures = 3
	// maxStrangers is how many listeners are asked in one scan for the first time.
	maxStrangers = 64
	probesAtOnce = 8
)

// finder keeps the list of engines. It is for one goroutine.
type finder struct {
	prober    *prober
	given     []address
	discover  Discovery
	avoid     []uint16 // ports of the gateway, when it is on this machine
	listeners func(context.Context) ([]netip.AddrPort, error)
	log       *slog.Logger

	engines   map[string]*engine // by origin and prefix
	names     map[string]string  // by the same; kept when an engine goes
	strangers map[string]bool    // what listens and is no engine, until it does not listen any more
	waiting   map[string]string  // engines of the owner's that are not there, and why
}

func newFinder(s *Settings, given []address, gateways []string) *finder {
	f := &finder{
		prober: newProber(), given: given, discover: s.Discover, listeners: loopbackListeners, log: s.Log,
		engines: map[string]*engine{}, names: map[string]string{}, strangers: map[string]bool{}, waiting: map[string]string{},
	}
	if s.listeners != nil {
		f.listeners = s.listeners
	}
	for _, gateway := range gateways {
		if port := localPort(gateway); port != 0 {
			f.avoid = append(f.avoid, port)
		}
	}
	return f
}

// localPort is the port of an address on this machine, or 0.
func localPort(gateway string) uint16 {
	u, err := url.Parse(gateway)
	if err != nil {
		return 0
	}
	if ip, err := netip.ParseAddr(u.Hostname()); u.Hostname() != "localhost" && (err != nil || !ip.IsLoopback()) {
		return 0
	}
	port, _ := strconv.ParseUint(cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme]), 10, 16)
	return uint16(port)
}

// scan asks every known engine and every new listener, and returns the engines in order. What it returns does not
// change any more.
func (f *finder) scan(ctx context.Context) []*engine {
	targets := f.targets(ctx)
	type answer struct {
		at  string
		e   *engine
		err error
	}
	answers := make([]answer, len(targets))
	var all sync.WaitGroup
	room := make(chan struct{}, probesAtOnce)
	keys := slices.Sorted(maps.Keys(targets))
	for i, at := range keys {
		kind := Kind("")
		if known := f.engines[at]; known != nil {
			kind = known.kind
		}
		all.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			e, err := f.prober.look(ctx, targets[at], kind)
			answers[i] = answer{at, e, err}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return f.list() // nobody is away because the agent stops
	}
	for _, a := range answers {
		f.note(a.at, targets[a.at], a.e, a.err)
	}
	return f.list()
}

// targets are the addresses to ask now.
func (f *finder) targets(ctx context.Context) map[string]address {
	targets := map[string]address{}
	for _, a := range f.given {
		targets[a.url("")] = a
	}
	for at, e := range f.engines {
		targets[at] = e.address
	}
	ports := map[netip.AddrPort]bool{}
	if f.discover != DiscoverOff {
		for _, port := range usualPorts {
			ports[netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)] = true
		}
	}
	if f.discover == DiscoverAll {
		listening, err := f.listeners(ctx)
		if err != nil {
			f.log.Debug("what listens on this machine can not be listed; the usual ports are asked", "error", err)
		}
		heard := map[string]bool{}
		for _, l := range listening {
			ports[l] = true
			heard["http://"+l.String()] = true
		}
		maps.DeleteFunc(f.strangers, func(at string, _ bool) bool { return !heard[at] })
	}
	strangers := 0
	for _, l := range slices.SortedFunc(maps.Keys(ports), netip.AddrPort.Compare) {
		a := address{origin: "http://" + l.String()}
		_, known := targets[a.url("")]
		if known || f.strangers[a.origin] || slices.Contains(f.avoid, l.Port()) || strangers == maxStrangers || f.isGiven(l) {
			continue
		}
		if !slices.Contains(usualPorts, l.Port()) {
			strangers++
		}
		targets[a.url("")] = a
	}
	return targets
}

// isGiven says whether the owner has named the engine at a loopback address under another spelling, or with a path.
func (f *finder) isGiven(l netip.AddrPort) bool {
	return slices.ContainsFunc(f.given, func(a address) bool { return localPort(a.origin) == l.Port() })
}

// note takes the answer of one address.
func (f *finder) note(at string, a address, e *engine, err error) {
	known := f.engines[at]
	switch {
	case err == nil:
		delete(f.waiting, at)
		e.name = f.name(at, a, e.kind)
		f.engines[at] = e
		if known == nil || len(known.models) == 0 && len(e.models) > 0 {
			f.log.Info("found an engine", "engine", e.name, "url", at, "models", len(e.models))
		}
	case known != nil && !nobodyThere(err) && known.failures+1 < maxFailures && !errors.Is(err, errNoEngine):
		still := *known
		still.failures++
		f.engines[at] = &still
	default:
		if known != nil {
			f.log.Warn("an engine is gone", "engine", known.name, "url", at, "reason", whyNot(err))
			delete(f.engines, at)
		}
		if a.given {
			if f.waiting[at] == "" && known == nil {
				f.log.Warn("an engine that was named does not answer; it is asked again", "url", at, "reason", whyNot(err))
			}
			f.waiting[at] = whyNot(err)
		}
		if known == nil && !a.given && !nobodyThere(err) && !errors.Is(err, errLoading) && f.discover == DiscoverAll {
			f.strangers[a.origin] = true
		}
	}
}

// whyNot says in words why an address is no engine.
func whyNot(err error) string {
	switch {
	case nobodyThere(err):
		return "nothing listens there"
	case errors.Is(err, errNoEngine):
		return "what answers there has no OpenAI-compatible /v1/models"
	case errors.Is(err, errNeedsKey):
		return "it wants a key: give it in node.yaml"
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	default:
		return err.Error()
	}
}

// name is what an engine is called on this node: the same one each time it comes back.
func (f *finder) name(at string, a address, kind Kind) string {
	if name := f.names[at]; name != "" {
		return name
	}
	taken := slices.Collect(maps.Values(f.names))
	wanted := cmp.Or(a.name, string(kind))
	name := wanted
	for n := 2; slices.Contains(taken, name); n++ {
		name = fmt.Sprintf("%s-%d", wanted, n)
	}
	f.names[at] = name
	return name
}

// list is all engines: those of the owner in their order, then the others.
func (f *finder) list() []*engine {
	place := func(e *engine) int {
		at := slices.IndexFunc(f.given, func(a address) bool { return a.url("") == e.address.url("") })
		if at < 0 {
			return len(f.given)
		}
		return at
	}
	return slices.SortedFunc(maps.Values(f.engines), func(a, b *engine) int {
		return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(a.name, b.name))
	})
}

// missing are the engines of the owner's that are not there, with the reason.
func (f *finder) missing() []string {
	var list []string
	for _, at := range slices.Sorted(maps.Keys(f.waiting)) {
		list = append(list, at+": "+f.waiting[at])
	}
	return list
}

// loopbackListeners are the addresses of loopback at which somebody listens for TCP.
func loopbackListeners(ctx context.Context) ([]netip.AddrPort, error) {
	connections, err := netstat.ConnectionsWithoutUidsWithContext(ctx, "tcp")
	var list []netip.AddrPort
	for i := range connections {
		c := &connections[i]
		if !strings.EqualFold(c.Status, "LISTEN") || c.Laddr.Port == 0 || c.Laddr.Port > 65535 {
			continue
		}
		ip, err := netip.ParseAddr(c.Laddr.IP)
		if err != nil && c.Laddr.IP != "*" {
			continue
		}
		switch ip = ip.Unmap(); {
		case err != nil, ip.IsUnspecified():
			ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		case !ip.IsLoopback():
			continue
		}
		list = append(list, netip.AddrPortFrom(ip, uint16(c.Laddr.Port)))
	}
	slices.SortFunc(list, netip.AddrPort.Compare)
	return slices.Compact(list), err
}
