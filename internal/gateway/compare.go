package gateway

import (
	"time"

	"shareai/internal/usage"
)

// compare notes what the primary would have cost, and how fast it usually is.
func (x *exchange) compare() {
	at := usage.Primary(x.record.Candidates)
	if at < 0 {
		return
	}
	primary, usual := &x.plan.Candidates[at], time.Duration(0)
	if x.gateway.Live != nil {
		usual = x.gateway.Live.Look(primary.HealthID).Latency[x.plan.Mode]
	}
	x.record.Against(primary.ID, primary.Deployment.Price, usual)
}
