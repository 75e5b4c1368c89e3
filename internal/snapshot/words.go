package snapshot

import (
	"slices"
	"strconv"
	"strings"

	"shareai/internal/catalog"
)

// The words of a file were checked where they stand. Rows come from anywhere, and a word that nobody
// understands must not quietly mean the default.

func (c *compiler) providerWords(p *catalog.Provider) {
	word(c, p.Prefill, catalog.PrefillForms, "providers", p.Name, "prefill")
	word(c, p.Probe.Kind, catalog.ProbeKinds, "providers", p.Name, "probe", "kind")
}

func (c *compiler) policyWords(p *catalog.Policy) {
	word(c, p.Strategy, catalog.Strategies, "policies", p.Name, "strategy")
	word(c, p.Equivalents, []string{catalog.EquivalentsOff, catalog.EquivalentsClosest, catalog.EquivalentsAny}, "policies", p.Name, "equivalents")
	word(c, p.OnContentFilter, []string{catalog.FilterReturn, catalog.FilterFallback}, "policies", p.Name, "on_content_filter")
	word(c, p.Hedge, []string{catalog.Off, catalog.HedgeP95}, "policies", p.Name, "hedge")
	word(c, p.HoldToolCalls, []string{catalog.Auto, catalog.Off}, "policies", p.Name, "hold_tool_calls")
	word(c, p.Resume, []string{catalog.Auto, catalog.Off}, "policies", p.Name, "resume")
	word(c, p.Community, []string{catalog.Off, catalog.CommunityAllow}, "policies", p.Name, "community")
	word(c, p.OnLimitStoreFailure, []string{catalog.LimitsAllow, catalog.LimitsReject}, "policies", p.Name, "on_limit_store_failure")
	for i, class := range p.FailoverOn {
		word(c, class, catalog.FailureClasses, "policies", p.Name, "failover_on", strconv.Itoa(i))
	}
}

// word reports a word that is none of the known ones. An empty one stands for the default.
func word[T ~string](c *compiler, w T, known []T, parts ...string) {
	if w == "" || slices.Contains(known, w) {
		return
	}
	texts := make([]string, len(known))
	for i, k := range known {
		texts[i] = string(k)
	}
	c.problems.Found("use "+strings.Join(texts, ", "), parts, "there is no %s %q", parts[2], w)
}
