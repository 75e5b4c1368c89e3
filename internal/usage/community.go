package usage

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"shareai/internal/catalog"
)

// CommunityPart is what one shared node has of a record.
type CommunityPart struct {
	Handle   string
	Model    string
	Tokens   catalog.Tokens
	Cost     int64
	Answered bool // it gave the answer, or the rest of it
}

// CommunityParts are what nodes that other organizations share have of a record: what each attempt was charged for where
// it failed, and the rest where the answer came from. Together with those of all others they are the record's cost.
func (r *Record) CommunityParts() []CommunityPart {
	if !r.inCommunity() {
		return nil
	}
	var parts []CommunityPart
	add := func(provider string, p CommunityPart) {
		var shared bool
		if p.Handle, shared = HandleOf(provider); shared {
			parts = append(parts, p)
		}
	}
	rest := max(r.Cost, 0)
	prompt, completion := r.Tokens.Prompt, r.Tokens.Completion
	for i := range r.Attempts {
		a := &r.Attempts[i]
		if a.Provider == r.Provider && a.Deployment == r.Deployment {
			continue
		}
		cost := min(max(a.Cost, 0), rest)
		rest -= cost
		prompt, completion = max(0, prompt-a.Tokens.Prompt), max(0, completion-a.Tokens.Completion)
		if cost > 0 || a.Tokens != (catalog.Tokens{}) {
			add(a.Provider, CommunityPart{Model: a.Model, Tokens: a.Tokens, Cost: cost})
		}
	}
	add(r.Provider, CommunityPart{Model: r.Model, Tokens: catalog.Tokens{Prompt: prompt, Completion: completion}, Cost: rest, Answered: true})
	return parts
}

// HandleOf is the handle in the name of a shared node; false: the provider is none.
func HandleOf(provider string) (string, bool) {
	handle, shared := strings.CutPrefix(provider, catalog.CommunityPrefix)
	return handle, shared
}

// inCommunity says whether a shared node had to do with a record.
func (r *Record) inCommunity() bool {
	if strings.HasPrefix(r.Provider, catalog.CommunityPrefix) {
		return true
	}
	for i := range r.Attempts {
		if strings.HasPrefix(r.Attempts[i].Provider, catalog.CommunityPrefix) {
			return true
		}
	}
	return false
}

// blameless are the outcomes of attempts that say nothing about whether a node can be relied on: the client's own
// doing, what is decided elsewhere, and a node that said at once that it is busy.
var blameless = map[string]bool{
	"node_busy": true, "context_length": true, "content_filter": true, "client_error": true, "canceled": true, "total_timeout": true,
	"diverged": true, "hedged": true, "quota_exhausted": true, "refused_address": true,
}

// Verdict says whether an attempt tells how far its node can be relied on, and whether it speaks for it.
func (a *Attempt) Verdict() (counts, served bool) {
	if a.Drill != "" || blameless[a.Outcome] {
		return false, false
	}
	return true, a.Outcome == "ok"
}

// The accounts of the community's ledger beside those of organizations.
const (
	OperatorAccount  = "operator"
	UnclaimedAccount = "unclaimed" // of what was served under a handle that nobody has
)

// AccountOf is the account of an organization.
func AccountOf(organization string) string {
	if organization == "" {
		return UnclaimedAccount
	}
	return "organization:" + organization
}

// The kinds of transfers.
const (
	TransferServed = "served" // from who asked to who served
	TransferFee    = "fee"    // the operator's part of that
)

// Transfer is an amount that goes from one account to another: two entries whose sum is zero.
type Transfer struct {
	ID       string // made of the record's, so that it is posted once
	Kind     string
	From, To string
	Amount   int64 // nano-dollars, more than 0
	Part     CommunityPart
}

// TransfersOf are what a part of a record costs whom. The fee is in millionths.
func (r *Record) TransfersOf(number int, part CommunityPart, owner string, fee int64) []Transfer {
	if part.Cost <= 0 {
		return nil
	}
	id, earner := r.ID+"/"+strconv.Itoa(number), AccountOf(owner)
	transfers := []Transfer{{ID: id, Kind: TransferServed, From: AccountOf(r.Organization), To: earner, Amount: part.Cost, Part: part}}
	if due := catalog.FeeOf(part.Cost, fee); due > 0 {
		about := CommunityPart{Handle: part.Handle, Model: part.Model}
		transfers = append(transfers, Transfer{ID: id + "/fee", Kind: TransferFee, From: earner, To: OperatorAccount, Amount: due, Part: about})
	}
	return transfers
}

// CommunityLine is what a node earned with a model. Money is nano-dollars.
type CommunityLine struct {
	Handle           string
	Model            string
	Requests         int64 // answered; what broke off before and was paid for is in the rest
	PromptTokens     int64
	CompletionTokens int64
	Earned           int64 // before the fee
	Fee              int64
}

// CommunityStatement is what an organization earned and spent in a time. Balance is over all time: what it is owed, or
// owes where that is negative.
type CommunityStatement struct {
	Lines   []CommunityLine // by handle and model
	Spent   int64
	Balance int64
}

// Add adds a sum of the organization's entries. What it owes for what it was served is nothing that its nodes earned.
func (c *CommunityStatement) Add(l CommunityLine, kind string, amount int64) {
	if kind == TransferServed && amount < 0 {
		c.Spent -= amount
		return
	}
	at, found := slices.BinarySearchFunc(c.Lines, &l, func(have CommunityLine, want *CommunityLine) int {
		return cmp.Or(strings.Compare(have.Handle, want.Handle), strings.Compare(have.Model, want.Model))
	})
	if !found {
		c.Lines = slices.Insert(c.Lines, at, CommunityLine{Handle: l.Handle, Model: l.Model})
	}
	line := &c.Lines[at]
	line.Requests, line.PromptTokens, line.CompletionTokens = line.Requests+l.Requests, line.PromptTokens+l.PromptTokens, line.CompletionTokens+l.CompletionTokens
	if kind == TransferFee {
		line.Fee -= amount
	} else {
		line.Earned += amount
	}
}

// Earned is the sum of the lines, before and after the fee.
func (c *CommunityStatement) Earned() (gross, net int64) {
	for _, l := range c.Lines {
		gross, net = gross+l.Earned, net+l.Earned-l.Fee
	}
	return gross, net
}

// CommunityRecord is how a node served others: the requests of some days, the tokens of all time.
type CommunityRecord struct {
	Handle           string
	Served, Failed   int64
	PromptTokens     int64
	CompletionTokens int64
}
