package adminapi

import (
	"bytes"
	"context"
	"encoding/csv"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/control"
	"shareai/internal/usage"
)

// Community are the use cases of sharing nodes.
type Community interface {
	ShareNode(ctx context.Context, ref string, among control.NodeFilter, r control.ShareRequest) (catalog.Node, error)
	UnshareNode(ctx context.Context, ref string, among control.NodeFilter) (catalog.Node, error)
	JoinCommunity(ctx context.Context, organization string) (account.Organization, error)
	LeaveCommunity(ctx context.Context, organization string) (account.Organization, error)
	CommunityMonth(month string) (from, to time.Time, err error)
}

// CommunityLedger is the ledger of what was served.
type CommunityLedger interface {
	CommunityStatement(ctx context.Context, organization string, from, to int64) (usage.CommunityStatement, error)
}

// NodeShare is how a node is shared.
type NodeShare struct {
	Handle      string      `json:"handle" doc:"Others know the node as community:HANDLE. It is the node's for good."`
	DisplayName string      `json:"display_name,omitempty" doc:"On the page of contributors."`
	Listed      bool        `json:"listed" doc:"On the public page of contributors."`
	Active      bool        `json:"active" doc:"Shared at present."`
	Models      []string    `json:"models" nullable:"false" doc:"Patterns of names; none: every model of the node."`
	Prices      []NodePrice `json:"prices" nullable:"false" doc:"A model without a price costs nothing."`
	Retention   string      `json:"retention" doc:"What is declared to others: none, unknown, or days such as 30d."`
	Fee         float64     `json:"fee" doc:"The operator's part of what is earned, 0 to 1, as it was when the node was shared."`
	Since       time.Time   `json:"since"`
	Ended       *time.Time  `json:"ended,omitempty"`
}

// CommunityLine is what a node earned with a model.
type CommunityLine struct {
	Handle           string `json:"handle"`
	Model            string `json:"model"`
	Requests         int64  `json:"requests" doc:"That it answered and was paid for."`
	PromptTokens     int64  `json:"prompt_tokens"`
	CompletionTokens int64  `json:"completion_tokens"`
	EarnedUSD        string `json:"earned_usd" doc:"As a decimal, before the fee."`
	FeeUSD           string `json:"fee_usd" doc:"The operator's part."`
	NetUSD           string `json:"net_usd"`
}

// CommunityStatement is what an organization earned and spent in a month.
type CommunityStatement struct {
	Organization string          `json:"organization"`
	Month        string          `json:"month" example:"2026-11" doc:"In UTC."`
	Lines        []CommunityLine `json:"lines" nullable:"false" doc:"What its nodes earned, by handle and model."`
	EarnedUSD    string          `json:"earned_usd" doc:"Before the fee."`
	NetUSD       string          `json:"net_usd" doc:"After the fee."`
	SpentUSD     string          `json:"spent_usd" doc:"At nodes of others."`
	BalanceUSD   string          `json:"balance_usd" doc:"Over all time: what it is owed; negative: what it owes."`
}

// Membership says whether an organization takes part.
type Membership struct {
	Member bool `json:"member" doc:"Nodes of others may serve it, where a policy says community: allow."`
}

// ViewNodeShare is a share as the API shows it; nil: there never was one.
func ViewNodeShare(s *catalog.NodeShare) *NodeShare {
	if s == nil {
		return nil
	}
	v := &NodeShare{
		Handle: s.Handle, DisplayName: s.DisplayName, Listed: s.Listed, Active: s.Active(), Models: append([]string{}, s.Models...),
		Prices: []NodePrice{}, Retention: s.Retention, Fee: float64(s.Fee) / 1e6, Since: s.Since,
	}
	if v.Retention == "" {
		v.Retention = "unknown"
	}
	for _, p := range s.Prices {
		v.Prices = append(v.Prices, NodePrice{Model: p.Model, Input: perMillion(p.Price.Input), Output: perMillion(p.Price.Output), CachedInput: perMillion(p.Price.CachedInput)})
	}
	if !s.EndedAt.IsZero() {
		v.Ended = &s.EndedAt
	}
	return v
}

// ViewCommunityStatement is a statement as the API shows it.
func ViewCommunityStatement(organization string, month time.Time, s *usage.CommunityStatement) CommunityStatement {
	gross, net := s.Earned()
	v := CommunityStatement{
		Organization: organization, Month: month.Format("2006-01"), Lines: make([]CommunityLine, len(s.Lines)),
		EarnedUSD: money(gross), NetUSD: money(net), SpentUSD: money(s.Spent), BalanceUSD: money(s.Balance),
	}
	for i, l := range s.Lines {
		v.Lines[i] = CommunityLine{
			Handle: l.Handle, Model: l.Model, Requests: l.Requests, PromptTokens: l.PromptTokens, CompletionTokens: l.CompletionTokens,
			EarnedUSD: money(l.Earned), FeeUSD: money(l.Fee), NetUSD: money(l.Earned - l.Fee),
		}
	}
	return v
}

// CSV is the lines of a statement, with a last one for what was spent.
func (v *CommunityStatement) CSV() ([]byte, error) {
	var text bytes.Buffer
	w := csv.NewWriter(&text)
	_ = w.Write([]string{"month", "handle", "model", "requests", "prompt_tokens", "completion_tokens", "earned_usd", "fee_usd", "net_usd"})
	for _, l := range v.Lines {
		_ = w.Write([]string{
			v.Month, harmless(l.Handle), harmless(l.Model), strconv.FormatInt(l.Requests, 10), strconv.FormatInt(l.PromptTokens, 10),
			strconv.FormatInt(l.CompletionTokens, 10), l.EarnedUSD, l.FeeUSD, l.NetUSD,
		})
	}
	spent := v.SpentUSD
	if spent != "0" {
		spent = "-" + spent
	}
	_ = w.Write([]string{v.Month, "", "spent at nodes of others", "", "", "", "", "", spent})
	w.Flush()
	return text.Bytes(), w.Error()
}

type (
	shareInput struct {
		Node string `path:"node" maxLength:"100" doc:"Its id, or its name."`
		Body struct {
			Handle      string      `json:"handle" minLength:"3" maxLength:"40" doc:"Of a-z, 0-9 and -. Unique in the installation, and the node's for good."`
			DisplayName string      `json:"display_name,omitempty" maxLength:"240" doc:"On the page of contributors. Missing: the handle."`
			Listed      bool        `json:"listed,omitempty" doc:"Consent to be on the public page of contributors."`
			Models      []string    `json:"models,omitempty" maxItems:"100" doc:"Patterns of names. Missing: every model of the node."`
			Prices      []NodePrice `json:"prices,omitempty" maxItems:"500" doc:"Within the operator's limits. A model without a price costs nothing; cached_input is like input where it is missing."`
			Retention   string      `json:"retention,omitempty" maxLength:"10" doc:"none, unknown, or days such as 30d: how long the machine keeps what others ask. Missing: unknown."`
		}
	}
	statementInput struct {
		Month  string `query:"month" maxLength:"7" example:"2026-11" doc:"In UTC. Missing: the present one."`
		Format string `query:"format" enum:"json,csv" default:"json"`
	}
	membershipAnswer struct{ Body Membership }
	nothingAsked     struct{}
)

func (a *API) addCommunity() {
	tags := []string{"Community"}
	const share = "/api/v1/nodes/{node}/share"
	const membership = "/api/v1/community/membership"
	operation(a, huma.Operation{
		OperationID: "share-node", Method: http.MethodPut, Path: share, Tags: tags,
		Summary: "Share a node", Description: "Lets organizations of the community use a node, at the owner's prices and on the operator's terms. Replaces what was offered before.",
	}, account.WriteNodes, a.shareNode)
	operation(a, huma.Operation{
		OperationID: "unshare-node", Method: http.MethodDelete, Path: share, Tags: tags,
		Summary: "Stop sharing a node", Description: "Others get nothing from the node any more. What was earned stays, and so does the handle.",
	}, account.WriteNodes, a.unshareNode)
	operation(a, huma.Operation{
		OperationID: "join-community", Method: http.MethodPut, Path: membership, Tags: tags,
		Summary: "Take part in the community", Description: "Lets nodes of other organizations serve this one, where a policy says so. They see its prompts then.",
	}, account.WriteOrganization, a.joinCommunity)
	operation(a, huma.Operation{
		OperationID: "leave-community", Method: http.MethodDelete, Path: membership, Tags: tags,
		Summary: "Leave the community", Description: "No node of another organization serves this one any more. Sharing nodes is another matter, and goes on.",
	}, account.WriteOrganization, a.leaveCommunity)
	operation(a, huma.Operation{
		OperationID: "get-community-statement", Method: http.MethodGet, Path: "/api/v1/community/statement", Tags: tags,
		Summary: "Get a statement", Description: "What the organization's nodes earned in a month, and what it spent at nodes of others, as JSON or CSV.",
	}, account.ReadUsage, a.communityStatement)
}

func (a *API) shareNode(ctx context.Context, caller *Caller, in *shareInput) (*nodeAnswer, error) {
	prices, err := readNodePrices(in.Body.Prices)
	if err != nil {
		return nil, err
	}
	node, err := a.Community.ShareNode(ctx, in.Node, nodesOf(caller), control.ShareRequest{
		Handle: in.Body.Handle, DisplayName: in.Body.DisplayName, Listed: in.Body.Listed, Models: in.Body.Models, Prices: prices, Retention: in.Body.Retention,
	})
	return a.nodeChanged(ctx, &node, err)
}

func (a *API) unshareNode(ctx context.Context, caller *Caller, in *nodeAsked) (*nodeAnswer, error) {
	node, err := a.Community.UnshareNode(ctx, in.Node, nodesOf(caller))
	return a.nodeChanged(ctx, &node, err)
}

func (a *API) joinCommunity(ctx context.Context, caller *Caller, _ *nothingAsked) (*membershipAnswer, error) {
	o, err := a.Community.JoinCommunity(ctx, caller.Organization)
	return a.membership(ctx, &o, err)
}

func (a *API) leaveCommunity(ctx context.Context, caller *Caller, _ *nothingAsked) (*membershipAnswer, error) {
	o, err := a.Community.LeaveCommunity(ctx, caller.Organization)
	return a.membership(ctx, &o, err)
}

func (a *API) membership(ctx context.Context, o *account.Organization, err error) (*membershipAnswer, error) {
	if err != nil {
		return nil, err
	}
	a.refresh(ctx)
	return &membershipAnswer{Body: Membership{Member: o.Community}}, nil
}

func (a *API) communityStatement(ctx context.Context, caller *Caller, in *statementInput) (*fileAnswer, error) {
	from, to, err := a.Community.CommunityMonth(in.Month)
	if err != nil {
		return nil, err
	}
	s, err := a.CommunityLedger.CommunityStatement(ctx, caller.Organization, from.UnixMicro(), to.UnixMicro())
	if err != nil {
		return nil, err
	}
	v := ViewCommunityStatement(caller.Organization, from, &s)
	out := &fileAnswer{ContentType: "application/json", Disposition: "inline"}
	if in.Format == "json" {
		out.Body, err = encodeJSON(v)
		return out, err
	}
	out.ContentType, out.Disposition = "text/csv; charset=utf-8", `attachment; filename="community-`+v.Month+`.csv"`
	out.Body, err = v.CSV()
	return out, err
}
