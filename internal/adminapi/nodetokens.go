package adminapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/control"
	"shareai/internal/fault"
)

// NodeTokens are the use cases of the tokens by which machines become nodes.
type NodeTokens interface {
	CreateNodeToken(ctx context.Context, r control.NodeTokenRequest) (control.CreatedNodeToken, error)
	ListNodeTokens(ctx context.Context, f control.NodeFilter) ([]catalog.NodeToken, error)
	RevokeNodeToken(ctx context.Context, ref string, among control.NodeFilter) (catalog.NodeToken, error)
}

// NodeToken is a token as the API shows it.
type NodeToken struct {
	ID           string            `json:"id" example:"ntok_k3w7q2m5x4c6a2zt7d5b"`
	Organization string            `json:"organization"`
	State        string            `json:"state" enum:"open,used,expired,revoked" doc:"open: a machine can become a node with it."`
	Name         string            `json:"name,omitempty" doc:"That it gives the node; missing: the machine says."`
	Labels       map[string]string `json:"labels,omitempty"`
	Region       string            `json:"region,omitempty"`
	Uses         int               `json:"uses" doc:"How many machines it is for."`
	Used         int               `json:"used" doc:"How many it has made nodes."`
	Created      time.Time         `json:"created"`
	CreatedBy    string            `json:"created_by,omitempty"`
	Expires      time.Time         `json:"expires"`
	LastUsed     *time.Time        `json:"last_used,omitempty"`
	NodeID       string            `json:"node_id,omitempty" doc:"That used it last."`
	Revoked      *time.Time        `json:"revoked,omitempty"`
	Secret       string            `json:"secret,omitempty" doc:"The token itself. It is in the answer that makes it, and never again."`
}

// NodeTokenList is a list of tokens.
type NodeTokenList struct {
	Tokens []NodeToken `json:"tokens" nullable:"false"`
	NextCursor
}

// NodeTokenStart is the request for a token.
type NodeTokenStart struct {
	Name   string            `json:"name,omitempty" maxLength:"63" doc:"Of the node. Missing: the machine says. For several machines, numbers follow."`
	Labels map[string]string `json:"labels,omitempty" doc:"Of the nodes; at most 32."`
	Region string            `json:"region,omitempty" maxLength:"32" example:"eu" doc:"Where the machines are; policies confine traffic to regions."`
	For    string            `json:"for,omitempty" maxLength:"20" example:"15m" doc:"How long it holds: at most 15m, which is also what it is when this is missing."`
	Uses   int               `json:"uses,omitempty" minimum:"1" maximum:"1000" doc:"How many machines it is for. Missing: one."`
}

// ViewNodeToken is a token as it is at a moment, without its secret.
func ViewNodeToken(t *catalog.NodeToken, now time.Time) NodeToken {
	v := NodeToken{
		ID: t.ID, Organization: t.Organization, State: string(t.StateAt(now)), Name: t.Name, Labels: t.Labels, Region: t.Region,
		Uses: t.Uses, Used: t.Used, Created: t.CreatedAt, CreatedBy: t.CreatedBy, Expires: t.Expires, NodeID: t.NodeID,
	}
	if !t.UsedAt.IsZero() {
		v.LastUsed = &t.UsedAt
	}
	if !t.RevokedAt.IsZero() {
		v.Revoked = &t.RevokedAt
	}
	return v
}

type (
	nodeTokenStart  struct{ Body NodeTokenStart }
	nodeTokenAnswer struct {
		CacheControl string `header:"Cache-Control"`
		Body         NodeToken
	}
	nodeTokensAsked struct {
		State string `query:"state" enum:"open,all" default:"open" doc:"Which ones: those that can be used, or all. They are kept for 30 days."`
		Page
	}
	nodeTokensAnswer struct{ Body NodeTokenList }
	nodeTokenAsked   struct {
		ID string `path:"id" maxLength:"100" doc:"The token's id."`
	}
)

func (a *API) addNodeTokens() {
	tags := []string{"Nodes"}
	operation(a, huma.Operation{
		OperationID: "create-node-token", Method: http.MethodPost, Path: "/api/v1/node-tokens", Tags: tags, DefaultStatus: http.StatusCreated,
		Summary:     "Make a token for a node",
		Description: "Makes a token with which a machine becomes a node of the organization, once. It holds for 15 minutes at most and is shown in this answer only.",
	}, account.WriteNodes, a.createNodeToken)
	operation(a, huma.Operation{
		OperationID: "list-node-tokens", Method: http.MethodGet, Path: "/api/v1/node-tokens", Tags: tags,
		Summary: "List the tokens for nodes", Description: "Lists tokens by their ids. What they are themselves is not kept.",
	}, account.ReadNodes, a.listNodeTokens)
	operation(a, huma.Operation{
		OperationID: "revoke-node-token", Method: http.MethodDelete, Path: "/api/v1/node-tokens/{id}", Tags: tags,
		Summary: "Revoke a token for a node", Description: "Ends a token at once. The nodes that it made stay.",
	}, account.WriteNodes, a.revokeNodeToken)
}

func (a *API) createNodeToken(ctx context.Context, caller *Caller, in *nodeTokenStart) (*nodeTokenAnswer, error) {
	request := control.NodeTokenRequest{
		Organization: caller.Organization, Name: in.Body.Name, Labels: in.Body.Labels, Region: in.Body.Region, Uses: in.Body.Uses, By: caller.By(),
	}
	if in.Body.For != "" {
		var err error
		if request.For, err = catalog.ParseSpan(strings.TrimSpace(in.Body.For)); err != nil || request.For <= 0 {
			return nil, fault.New(fault.Invalid, "invalid_value", "The time that the token holds has another form than 90s or 10m.").About("for")
		}
	}
	made, err := a.NodeTokens.CreateNodeToken(ctx, request)
	if err != nil {
		return nil, err
	}
	out := &nodeTokenAnswer{CacheControl: "no-store", Body: ViewNodeToken(&made.Token, made.Token.CreatedAt)}
	out.Body.Secret = made.Secret.Reveal()
	return out, nil
}

func (a *API) listNodeTokens(ctx context.Context, caller *Caller, in *nodeTokensAsked) (*nodeTokensAnswer, error) {
	tokens, err := a.NodeTokens.ListNodeTokens(ctx, nodesOf(caller))
	if err != nil {
		return nil, err
	}
	now, kept := time.Now(), tokens[:0]
	for i := range tokens {
		if in.State == "all" || tokens[i].StateAt(now) == catalog.NodeTokenOpen {
			kept = append(kept, tokens[i])
		}
	}
	page, next, err := pageOf(kept, in.Page, func(t *catalog.NodeToken) string { return t.ID })
	if err != nil {
		return nil, err
	}
	out := &nodeTokensAnswer{Body: NodeTokenList{Tokens: make([]NodeToken, len(page)), NextCursor: next}}
	for i := range page {
		out.Body.Tokens[i] = ViewNodeToken(&page[i], now)
	}
	return out, nil
}

func (a *API) revokeNodeToken(ctx context.Context, caller *Caller, in *nodeTokenAsked) (*nodeTokenAnswer, error) {
	token, err := a.NodeTokens.RevokeNodeToken(ctx, in.ID, nodesOf(caller))
	if err != nil {
		return nil, err
	}
	return &nodeTokenAnswer{Body: ViewNodeToken(&token, time.Now())}, nil
}
