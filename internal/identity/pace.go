package identity

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net/netip"
	"time"

	"shareai/internal/account"
	"shareai/internal/cluster"
	"shareai/internal/fault"
)

// The failed attempts that are admitted in a window. An account has few, so that its password can not be guessed from
// many places; an address has more, because a whole office may share one.
const (
	paceWindow     = 15 * time.Minute
	paceAccount    = 10
	paceAddress    = 100
	paceLinks      = 5 // e-mails to one address
	paceLeaseTime  = time.Minute
	paceFallbackOf = "attempts to sign in are counted by this replica alone"
)

// pace bounds attempts.
type pace struct {
	shared cluster.Meters // may be nil
	own    cluster.Meters
	log    *slog.Logger
}

func newPace(shared cluster.Meters, log *slog.Logger) *pace {
	return &pace{shared: shared, own: cluster.NewMemoryMeters(), log: log}
}

// attempt is one that was admitted.
type attempt struct {
	meters cluster.Meters
	holder cluster.Holder
	dues   []cluster.Due
}

// succeed gives back what was taken: only failures count.
func (a *attempt) succeed(ctx context.Context) {
	a.meters.Settle(context.WithoutCancel(ctx), a.holder, a.dues)
}

// begin admits an attempt at something that has a name, from the address of the context's actor, or refuses it.
func (p *pace) begin(ctx context.Context, from, what, name string) (*attempt, error) {
	hash := account.HashKey(what + "\x00" + name) // no address of a person in Redis
	limit := int64(paceAccount)
	if what == byMail {
		limit = paceLinks
	}
	meters := []cluster.Meter{
		{Kind: cluster.Rate, Key: "identity/address/" + neighbourhood(from), Limit: paceAddress, Amount: 1, Period: paceWindow},
		{Kind: cluster.Rate, Key: "identity/" + what + "/" + hex.EncodeToString(hash[:16]), Limit: limit, Amount: 1, Period: paceWindow},
	}
	a := &attempt{meters: p.own, holder: cluster.Holder{ID: rand.Text(), Lease: paceLeaseTime}}
	var taken cluster.Taken
	var err error
	if p.shared != nil {
		if taken, err = p.shared.Take(ctx, a.holder, meters); err == nil {
			a.meters = p.shared
		} else {
			p.log.WarnContext(ctx, paceFallbackOf, "error", fault.Redact(err.Error()))
		}
	}
	if a.meters == p.own {
		if taken, err = p.own.Take(ctx, a.holder, meters); err != nil {
			return nil, fault.From(err)
		}
	}
	if !taken.Admitted {
		return nil, tooMany(taken)
	}
	for i, m := range meters {
		a.dues = append(a.dues, cluster.Due{Meter: m, Step: taken.Readings[i].Step, Amount: 0})
	}
	return a, nil
}

// What attempts are at.
const (
	byPassword = "password"
	byTicket   = "link"
	byMail     = "mail"
)

func tooMany(t cluster.Taken) error {
	e := fault.New(fault.RateLimited, "too_many_attempts", "There were too many attempts. Wait a while, then try again.")
	for _, r := range t.Readings {
		if r.Full {
			e.RetryAfter = max(e.RetryAfter, r.Wait)
		}
	}
	return e
}

// neighbourhood is an address, or of IPv6 the network of one household, which has more addresses than can be counted.
func neighbourhood(from string) string {
	address, err := netip.ParseAddr(from)
	if err != nil {
		return "unknown"
	}
	if address = address.Unmap(); address.Is4() {
		return address.String()
	}
	network, _ := address.WithZone("").Prefix(64) // 64 is a length of IPv6
	return network.String()
}
