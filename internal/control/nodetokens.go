package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"shareai/internal/account"
	"shareai/internal/audit"
	"shareai/internal/catalog"
	"shareai/internal/enrol"
	"shareai/internal/fault"
	"shareai/internal/snapshot"
)

// The bounds of a token.
const (
	MaxNodeTokenTime = 15 * time.Minute // what it is as well when its request does not say
	MaxNodeTokenUses = 1000
	maxOpenTokens    = 100 // of one organization, at once
)

// NodeTokenRequest describes a token by which a machine becomes a node.
type NodeTokenRequest struct {
	Organization string // empty: DefaultOrganization
	Name         string // of the node; empty: the machine says. With several uses a number follows
	Labels       map[string]string
	Region       string
	For          time.Duration // how long it holds; 0: MaxNodeTokenTime
	Uses         int           // how many machines it is for; 0: one
	By           string        // who asks for it, in words; empty: the actor's name
}

// CreatedNodeToken is a new token. Secret is shown once and can not be had again.
type CreatedNodeToken struct {
	Token  catalog.NodeToken
	Secret account.Secret
}

// CreateNodeToken makes a token.
func (c *Control) CreateNodeToken(ctx context.Context, r NodeTokenRequest) (CreatedNodeToken, error) {
	r.For, r.Uses = cmp.Or(r.For, MaxNodeTokenTime), cmp.Or(r.Uses, 1)
	makeOrganization := r.Organization == ""
	r.Organization = cmp.Or(r.Organization, DefaultOrganization)
	if err := r.check(); err != nil {
		return CreatedNodeToken{}, err
	}
	if err := c.admitToken(ctx, &r, makeOrganization); err != nil {
		return CreatedNodeToken{}, err
	}
	now, secret, who := c.now(), enrol.GenerateToken(), audit.ActorOf(ctx, c.o.Actor)
	token := catalog.NodeToken{
		ID: account.GenerateID("ntok_"), Hash: secret.Hash(), Organization: r.Organization, Name: r.Name, Labels: r.Labels,
		Region: r.Region, CreatedAt: now, CreatedBy: cmp.Or(r.By, who.Name), Expires: now.Add(r.For), Uses: r.Uses,
	}
	after, err := describeToken(&token)
	if err != nil {
		return CreatedNodeToken{}, fault.From(err)
	}
	if err := c.o.Nodes.AddNodeToken(ctx, &token, audit.Act{At: now, Who: who, Name: "node_token.create", Subject: token.ID, After: after}); err != nil {
		return CreatedNodeToken{}, fault.From(err)
	}
	return CreatedNodeToken{Token: token, Secret: secret}, nil
}

// The shapes of what a token gives its nodes; those of the configuration file.
var (
	regionShape = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)
	labelShape  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$`)
)

const (
	maxLabels    = 32
	longestLabel = 128
)

// check says what is wrong with a request by itself.
func (r *NodeTokenRequest) check() error {
	if err := checkName("organization", r.Organization); err != nil {
		return err
	}
	if r.Name != "" {
		if err := checkName("node", r.Name); err != nil {
			return err
		}
	}
	if r.Region != "" && !regionShape.MatchString(r.Region) {
		return fault.New(fault.Invalid, "invalid_region", "A region is a short lower-case name, for example eu or us-east-1.").About("region")
	}
	if r.For < 0 || r.For > MaxNodeTokenTime {
		return fault.New(fault.Invalid, "invalid_time", "A token holds for 15 minutes at most.").About("for")
	}
	if r.Uses < 0 || r.Uses > MaxNodeTokenUses {
		return fault.New(fault.Invalid, "invalid_uses", fmt.Sprintf("A token is for at least one machine and for %d at most.", MaxNodeTokenUses)).About("uses")
	}
	if len(r.Labels) > maxLabels {
		return fault.New(fault.Invalid, "invalid_labels", fmt.Sprintf("A node has at most %d labels.", maxLabels)).About("labels")
	}
	for name, value := range r.Labels {
		if !labelShape.MatchString(name) || len(value) > longestLabel || plainText(value, longestLabel) != value {
			return fault.New(fault.Invalid, "invalid_labels",
				"The name of a label has 1 to 63 letters, digits, '.', '_', '/' and '-', and its value at most 128 characters.").About("labels")
		}
	}
	return nil
}

// admitToken says whether a token may be made, and makes the default organization when that is meant and missing.
func (c *Control) admitToken(ctx context.Context, r *NodeTokenRequest, makeOrganization bool) error {
	rows, _, err := c.o.Rows.Load(ctx)
	if err != nil {
		return fault.From(err)
	}
	if declared := snapshot.Join(c.o.File(), rows); !hasOrganization(declared, r.Organization) {
		if !makeOrganization {
			return missing("organization", r.Organization)
		}
		err := c.CreateOrganization(ctx, account.Organization{Name: r.Organization})
		if err != nil && fault.From(err).Kind != fault.Conflict { // somebody else was faster
			return err
		}
	}
	if r.Name != "" && r.Uses == 1 && nodeNamed(rows.Nodes, r.Organization, r.Name) {
		return exists("node", r.Name)
	}
	tokens, err := c.o.Nodes.NodeTokens(ctx)
	if err != nil {
		return fault.From(err)
	}
	now, open := c.now(), 0
	for i := range tokens {
		if t := &tokens[i]; t.Organization == r.Organization && t.StateAt(now) == catalog.NodeTokenOpen {
			open++
		}
	}
	if open >= maxOpenTokens {
		return fault.New(fault.Conflict, "too_many_tokens", fmt.Sprintf(
			"%d tokens of this organization are open already. Revoke some, wait until they have expired, or make one for several machines.", open))
	}
	return nil
}

// ListNodeTokens returns tokens, the newest first. Those that expired are kept for 30 days.
func (c *Control) ListNodeTokens(ctx context.Context, f NodeFilter) ([]catalog.NodeToken, error) {
	tokens, err := c.o.Nodes.NodeTokens(ctx)
	if err != nil {
		return nil, fault.From(err)
	}
	return slices.DeleteFunc(tokens, func(t catalog.NodeToken) bool { return !f.matches(t.Organization) }), nil
}

// RevokeNodeToken ends a token at once and returns it. ref is its id, or the token itself, for one that has leaked. The
// nodes that it made stay. One that can not be used any more stays as it is.
func (c *Control) RevokeNodeToken(ctx context.Context, ref string, among NodeFilter) (catalog.NodeToken, error) {
	tokens, err := c.ListNodeTokens(ctx, among)
	if err != nil {
		return catalog.NodeToken{}, err
	}
	hash := account.HashKey(strings.TrimSpace(ref))
	at := slices.IndexFunc(tokens, func(t catalog.NodeToken) bool { return t.ID == ref || t.Hash == hash })
	if at < 0 { // ref is not repeated: it may be a secret
		return catalog.NodeToken{}, fault.New(fault.NotFound, "node_token_not_found",
			"There is no such token. Give its id (ntok_…) or the token itself.").About("token")
	}
	token, now := tokens[at], c.now()
	if token.StateAt(now) != catalog.NodeTokenOpen {
		return token, nil
	}
	before, err := describeToken(&token)
	if err != nil {
		return catalog.NodeToken{}, fault.From(err)
	}
	token.RevokedAt = now
	after, err := describeToken(&token)
	if err != nil {
		return catalog.NodeToken{}, fault.From(err)
	}
	err = c.o.Nodes.RevokeNodeToken(ctx, token.ID, now, audit.Act{
		At: now, Who: audit.ActorOf(ctx, c.o.Actor), Name: "node_token.revoke", Subject: token.ID, Before: before, After: after,
	})
	if err != nil && !errors.Is(err, catalog.ErrNodeTokenSpent) { // somebody else was faster
		return catalog.NodeToken{}, fault.From(err)
	}
	return token, nil
}

// tokenView is a token in the audit log.
type tokenView struct {
	Organization string            `json:"organization"`
	Name         string            `json:"name,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
	Region       string            `json:"region,omitempty"`
	Expires      time.Time         `json:"expires"`
	Uses         int               `json:"uses"`
	Used         int               `json:"used,omitempty"`
	Revoked      time.Time         `json:"revoked,omitzero"`
}

// describeToken is the token as the audit log has it, in the form that Differences has.
func describeToken(t *catalog.NodeToken) (json.RawMessage, error) {
	text, err := json.Marshal(tokenView{
		Organization: t.Organization, Name: t.Name, Labels: t.Labels, Region: t.Region,
		Expires: t.Expires, Uses: t.Uses, Used: t.Used, Revoked: t.RevokedAt,
	})
	if err != nil {
		return nil, err
	}
	return description{"node_tokens": {t.ID: text}}.encode()
}
