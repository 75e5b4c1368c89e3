package catalog

import (
	"math"
	"regexp"
	"slices"
	"time"

	"shareai/internal/account"
)

// CommunityPrefix begins the names under which policies, headers and records know nodes that other organizations share:
// "community:HANDLE" is one of them, "community:*" any.
const CommunityPrefix = "community:"

// NodeShare is what an owner offers to the organizations of the community, and what he agreed to.
type NodeShare struct {
	Handle      string      `json:"handle"`                 // unique in the installation, and the node's for good
	DisplayName string      `json:"display_name,omitempty"` // on the page of contributors
	Listed      bool        `json:"listed,omitempty"`       // the owner wants to be on that page
	Models      []string    `json:"models,omitempty"`       // patterns of names; none: every model of the node
	Prices      []NodePrice `json:"prices,omitempty"`       // what is not priced costs nothing
	Retention   string      `json:"retention,omitempty"`    // as of a provider; empty: unknown
	Fee         int64       `json:"fee,omitempty"`          // the operator's part when it was shared, in millionths
	Since       time.Time   `json:"since"`                  // the first time
	EndedAt     time.Time   `json:"ended_at,omitzero"`      // zero: it is shared
}

// Active says whether the node is shared at present.
func (s *NodeShare) Active() bool { return s != nil && s.EndedAt.IsZero() }

// Offers says whether a model of the node is among those that are shared.
func (s *NodeShare) Offers(model string) bool {
	return len(s.Models) == 0 || (&account.APIKey{Models: s.Models}).Allows(model)
}

// ProviderName is the name under which others know the node.
func (s *NodeShare) ProviderName() string { return CommunityPrefix + s.Handle }

var handleForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{1,38}[a-z0-9]$`)

// ValidHandle says whether a text can be a handle: 3 to 40 of a-z, 0-9 and "-", which neither begins nor ends with "-".
func ValidHandle(handle string) bool { return handleForm.MatchString(handle) }

// CommunityTerms are the operator's: whether there is a community, and on which conditions.
type CommunityTerms struct {
	Enabled  bool            `json:"enabled"`
	MaxPrice *CommunityPrice `json:"max_price,omitempty"` // nil: no limit
	Fee      int64           `json:"fee,omitempty"`       // the operator's part of what is earned, in millionths
}

// CommunityPrice bounds prices, in nano-dollars per million tokens.
type CommunityPrice struct {
	Input  int64 `json:"input"`
	Output int64 `json:"output"`
}

// Allows says whether a price is within the limits.
func (t *CommunityTerms) Allows(p *Price) bool {
	return t.MaxPrice == nil || max(p.Input, p.CachedInput) <= t.MaxPrice.Input && p.Output <= t.MaxPrice.Output
}

// PriceOf is what a model costs by a list of prices: its own price, that of all others, or nothing.
func PriceOf(model string, prices []NodePrice) Price {
	for _, name := range []string{model, "*"} {
		if at := slices.IndexFunc(prices, func(p NodePrice) bool { return p.Model == name }); at >= 0 {
			return prices[at].Price
		}
	}
	return Price{}
}

// million is the whole of a part in millionths.
const million = 1_000_000

// FeeOf is the operator's part of an amount, rounded down. The product of both need not fit an int64.
func FeeOf(amount, fee int64) int64 { return amount/million*fee + amount%million*fee/million }

// FeeFrom converts a share from 0 to 1 into millionths.
func FeeFrom(share float64) int64 { return int64(math.Round(share * million)) }

// What is assumed of a node of which little is known: so many requests, of which this share succeeded.
const (
	assumedRequests = 20
	assumedSuccess  = 0.9
)

// Reliability is the share of requests that a node served, from 0 to 1. A few requests say little: it begins at 0.9, and
// what is measured outweighs that after 20 requests.
func Reliability(served, failed int64) float64 {
	return (float64(served) + assumedRequests*assumedSuccess) / (float64(served+failed) + assumedRequests)
}
