package control

import (
	"context"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"shareai/internal/account"
	"shareai/internal/catalog"
	"shareai/internal/fault"
)

// ShareRequest is how an owner wants to share a node.
type ShareRequest struct {
	Handle      string
	DisplayName string // empty: the handle
	Listed      bool   // on the public page of contributors
	Models      []string
	Prices      []catalog.NodePrice
	Retention   string
}

// The bounds of a share.
const (
	maxSharedPatterns = 100
	longestDisplay    = 60 // characters
)

var retentionForm = regexp.MustCompile(`^(|none|unknown|[1-9][0-9]{0,3}d)$`)

// ShareNode offers a node to the other organizations of the community, or changes what is offered. The operator's terms of
// this moment are agreed to.
func (c *Control) ShareNode(ctx context.Context, ref string, among NodeFilter, r ShareRequest) (catalog.Node, error) {
	terms := c.o.File().Community
	share, err := shareOf(&terms, r)
	if err != nil {
		return catalog.Node{}, err
	}
	return c.changeNode(ctx, "node.share", ref, among, func(n *catalog.Node, all []catalog.Node) (bool, error) {
		if at := slices.IndexFunc(all, func(o catalog.Node) bool {
			return o.ID != n.ID && o.Shared != nil && o.Shared.Handle == share.Handle
		}); at >= 0 {
			return false, fault.New(fault.Conflict, "handle_taken",
				"The handle "+share.Handle+" is that of another node, or was: handles are never given again. Choose another one.").About("handle")
		}
		next := share
		next.Since = c.now()
		if before := n.Shared; before != nil {
			if before.Handle != next.Handle {
				return false, fault.New(fault.Conflict, "handle_stays",
					"This node is known as "+before.Handle+": what it served is kept under that handle, which stays. Use it.").About("handle")
			}
			next.Since = before.Since
		}
		do := n.Shared == nil || !reflect.DeepEqual(*n.Shared, next)
		n.Shared = &next
		return do, nil
	})
}

// UnshareNode ends what ShareNode began. The handle and what was earned stay the node's.
func (c *Control) UnshareNode(ctx context.Context, ref string, among NodeFilter) (catalog.Node, error) {
	return c.changeNode(ctx, "node.unshare", ref, among, func(n *catalog.Node, _ []catalog.Node) (bool, error) {
		if !n.Shared.Active() {
			return false, nil
		}
		ended := *n.Shared // the one that is declared stays as it is
		ended.EndedAt = c.now()
		n.Shared = &ended
		return true, nil
	})
}

// JoinCommunity lets shared nodes serve an organization, where a policy allows that.
func (c *Control) JoinCommunity(ctx context.Context, organization string) (account.Organization, error) {
	return c.UpdateOrganization(ctx, organization, func(o *account.Organization) { o.Community = true })
}

// LeaveCommunity ends what JoinCommunity began.
func (c *Control) LeaveCommunity(ctx context.Context, organization string) (account.Organization, error) {
	return c.UpdateOrganization(ctx, organization, func(o *account.Organization) { o.Community = false })
}

// shareOf checks a request against the operator's terms.
func shareOf(terms *catalog.CommunityTerms, r ShareRequest) (catalog.NodeShare, error) {
	s := catalog.NodeShare{
		Handle: r.Handle, DisplayName: strings.TrimSpace(r.DisplayName), Listed: r.Listed, Models: slices.Clone(r.Models),
		Prices: slices.Clone(r.Prices), Retention: r.Retention, Fee: terms.Fee,
	}
	refuse := func(code, about, message string) (catalog.NodeShare, error) {
		return s, fault.New(fault.Invalid, code, message).About(about)
	}
	switch {
	case !terms.Enabled:
		return s, fault.New(fault.Forbidden, "community_off",
			"Nodes can not be shared in this installation. Whoever runs the gateway can allow it: community.enabled in the configuration file.")
	case !catalog.ValidHandle(s.Handle):
		return refuse("invalid_handle", "handle", "A handle has 3 to 40 characters of a-z, 0-9 and \"-\", and neither begins nor ends with \"-\".")
	case utf8.RuneCountInString(s.DisplayName) > longestDisplay || !utf8.ValidString(s.DisplayName) || strings.ContainsFunc(s.DisplayName, invisible):
		return refuse("invalid_display_name", "display_name", "A display name has at most 60 characters, all of which can be seen.")
	case !retentionForm.MatchString(s.Retention):
		return refuse("invalid_retention", "retention", "The retention is none, unknown or a number of days such as 30d.")
	case len(s.Models) > maxSharedPatterns:
		return refuse("too_many_models", "models", "A share has at most 100 patterns of models.")
	}
	for _, pattern := range s.Models {
		if err := account.CheckPattern(pattern); err != nil {
			return refuse("invalid_model_pattern", "models", "The models are not allowed: "+err.Error()+".")
		}
	}
	if err := checkNodePrices(s.Prices); err != nil {
		return s, err
	}
	for i := range s.Prices {
		p := &s.Prices[i].Price
		if p.CachedInput == 0 { // the owner's engine decides what it caches, and who asks can not know
			p.CachedInput = p.Input
		}
		if !terms.Allows(p) {
			return refuse("price_above_limit", "prices", "The price of "+s.Prices[i].Model+" is above the operator's limit of "+
				catalog.FormatUSD(terms.MaxPrice.Input)+" USD for a million tokens of the prompt and "+catalog.FormatUSD(terms.MaxPrice.Output)+" of the answer.")
		}
	}
	slices.SortFunc(s.Prices, func(a, b catalog.NodePrice) int { return strings.Compare(a.Model, b.Model) })
	return s, nil
}

// invisible tells what could make a name on a page look like another one.
func invisible(r rune) bool { return !unicode.IsPrint(r) || unicode.Is(unicode.Cf, r) }

// CommunityMonth reads a month such as 2026-11; empty: the present one. It returns its first moment and that of the next.
func (c *Control) CommunityMonth(month string) (from, to time.Time, err error) {
	if month == "" {
		month = c.now().Format("2006-01")
	}
	if from, err = time.Parse("2006-01", month); err != nil || from.Year() < 2000 {
		return from, to, fault.New(fault.Invalid, "invalid_month", "A month has the form 2026-11.").About("month")
	}
	return from, from.AddDate(0, 1, 0), nil
}
