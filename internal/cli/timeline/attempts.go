package timeline

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"shareai/internal/catalog"
	"shareai/internal/routing"
	"shareai/internal/upstream"
	"shareai/internal/usage"
)

// reasons are the planner's reasons in words.
var reasons = map[routing.Reason]string{
	routing.NotPinned:    "the key or the request is pinned to another",
	routing.NotWanted:    "the request names other providers, or ignores this one",
	routing.WrongRegion:  "outside the policy's regions",
	routing.Community:    "a node of another organization, and the policy does not let it see prompts",
	routing.KeepsData:    "keeps data for longer than the policy accepts",
	routing.TooDear:      "above the price ceiling of the policy or the request",
	routing.TooManyTries: "beyond the number of attempts",
	routing.CircuitOpen:  "it failed too often of late",
	routing.IsDrained:    "it takes no new requests",
	routing.AtCapacity:   "it serves as much as it can, and the caller has its share",
	routing.NodeAway:     "the node is not connected",
	routing.NodeResting:  "its owner has the node serve at other times",
	routing.Incapable:    "can not do what the request needs",
	routing.TooLong:      "prompt and answer do not fit into its context",
	routing.TooMuch:      "its answers are shorter than the request wants",
	routing.KeyForbids:   "the API key may not use this model",
	routing.OverBudget:   "a budget is used up, and another is cheaper",
	routing.NoKey:        "every key of its provider is rejected or limited",
}

// origins say why a candidate was considered.
var origins = map[routing.Origin]string{
	routing.OfEquivalent: "equivalent",
	routing.OfPolicy:     "fallback of the policy",
	routing.OfRequest:    "fallback of the request",
}

// longestName is how long the name of a deployment may be to share a line with its verdict.
const longestName = 34

func candidates(p Page, v *Trace) {
	width := 0
	for _, c := range v.Candidates {
		if n := utf8.RuneCountInString(c.Deployment); n <= longestName {
			width = max(width, n)
		}
	}
	for i := range v.Candidates {
		c := &v.Candidates[i]
		head := fmt.Sprintf("  %2d  %-*s  ", i+1, width, c.Deployment)
		if utf8.RuneCountInString(c.Deployment) > width {
			p.Print("  %2d  %s\n", i+1, c.Deployment)
			head = strings.Repeat(" ", 8)
		}
		style := plain
		if c.Reason != "" {
			style = p.Faint
		}
		wrapped(p, head, v.verdict(c), style)
	}
}

// verdict says what became of a candidate.
func (v *Trace) verdict(c *usage.Candidate) string {
	var tried []string
	for i := range v.Attempts {
		if v.Attempts[i].Deployment == c.Deployment {
			tried = append(tried, v.Attempts[i].Outcome)
		}
	}
	text := "kept, not tried"
	switch {
	case len(tried) > 0 && slices.Contains(tried, string(upstream.OK)):
		text = "answered"
	case len(tried) > 0:
		text = "tried: " + strings.Join(slices.Compact(tried), ", ")
	case c.Reason != "":
		text = "excluded: " + c.Reason
		if words := reasons[routing.Reason(c.Reason)]; words != "" {
			text += " (" + words + ")"
		}
	case v.Deployment != "":
		text = "kept, not needed"
	}
	if c.Origin == "" {
		return text
	}
	text += "; " + cmp.Or(origins[routing.Origin(c.Origin)], c.Origin) + ": " + c.Model
	if c.Grade > 0 {
		text += fmt.Sprintf(", grade %.2f", c.Grade)
	}
	return text
}

// barWidth is the length of the time line in characters, between its two ends.
const barWidth = 70

// The marks of the time line.
const (
	markWait    = '~'
	markSilence = '.'
	markHeaders = '-'
	markContent = '#'
	markFailed  = 'x'
)

// attempts draws every attempt on the time of the whole request, and says below what can not be drawn.
func attempts(p Page, v *Trace) {
	total := v.Duration
	for i := range v.Attempts {
		total = max(total, v.Attempts[i].Offset+v.Attempts[i].Duration)
	}
	end := us(total)
	p.Print("     0 ms%s%s\n", strings.Repeat(" ", max(barWidth+2-len("0 ms")-len(end), 1)), end)
	for i := range v.Attempts {
		a := &v.Attempts[i]
		wrapped(p, fmt.Sprintf("  %2d ", i+1), a.Deployment+came(a)+": "+ended(a), plain)
		p.Print("     |%-*s|\n", barWidth, bar(a, total))
		wrapped(p, "     ", timings(a), p.Faint)
		if text := spent(a); text != "" {
			wrapped(p, "     ", text, p.Faint)
		}
		if a.Message != "" {
			wrapped(p, "     ", a.Message, p.Faint)
		}
	}
	p.Print("\n  %s\n", p.Faint("~ back-off   . no answer yet   - no content yet   # content   x broke off"))
}

// came says how an attempt came about, in brackets; empty for an ordinary one.
func came(a *usage.Attempt) string {
	var words []string
	if a.Retry {
		words = append(words, "retry")
	}
	if a.Hedge {
		words = append(words, "hedge, beside another attempt")
	}
	switch a.Resumes {
	case "":
	case "prefill":
		words = append(words, "continues the broken stream")
	case "restart":
		words = append(words, "says again what the broken stream said, and goes on")
	default:
		words = append(words, "resumes: "+a.Resumes)
	}
	if a.Circuit != "" {
		words = append(words, "probe of its "+strings.ReplaceAll(a.Circuit, "_", "-")+" circuit")
	}
	if a.Drill != "" {
		words = append(words, "fails by "+a.Drill)
	}
	if len(words) == 0 {
		return ""
	}
	return " (" + strings.Join(words, "; ") + ")"
}

func ended(a *usage.Attempt) string {
	if a.Status != 0 && a.Status != 200 {
		return fmt.Sprintf("%s (%d)", a.Outcome, a.Status)
	}
	return a.Outcome
}

func timings(a *usage.Attempt) string {
	text := fmt.Sprintf("from %s for %s", us(a.Offset), us(a.Duration))
	if a.Wait > 0 {
		text = fmt.Sprintf("after a wait of %s, ", us(a.Wait)) + text
	}
	var marks []string
	if a.Headers > 0 {
		marks = append(marks, "headers after "+us(a.Headers))
	}
	if a.FirstToken > 0 {
		marks = append(marks, "first token after "+us(a.FirstToken))
	}
	if len(marks) > 0 {
		text += "; " + strings.Join(marks, ", ")
	}
	if a.ProviderKey != "" {
		text += "; provider key " + a.ProviderKey
	}
	return text
}

// spent says what an attempt used up; empty when it used nothing.
func spent(a *usage.Attempt) string {
	if a.Tokens == (catalog.Tokens{}) && a.Cost == 0 {
		return ""
	}
	return tokensText(a.Tokens) + "; $" + catalog.FormatUSD(a.Cost)
}

// bar draws an attempt on the request's time line; the marks say what it was doing. Every attempt is at
// least one character long.
func bar(a *usage.Attempt, total int64) string {
	if total <= 0 {
		return ""
	}
	place := func(at int64) int { return int(min(max((at*barWidth+total/2)/total, 0), barWidth)) }
	start := min(place(a.Offset), barWidth-1)
	end := max(place(a.Offset+a.Duration), start+1)
	failed := a.Outcome != string(upstream.OK)
	headers, content := end, end
	if a.Headers > 0 {
		headers = min(max(place(a.Offset+a.Headers), start), end)
	}
	switch {
	case a.FirstToken > 0:
		content = min(max(place(a.Offset+a.FirstToken), headers), end)
	case !failed: // a whole answer comes with its headers
		content = headers
	}
	if !failed {
		content = min(content, end-1)
	}
	headers = min(headers, content)
	line := []byte(strings.Repeat(" ", end))
	paint := func(from, to int, mark byte) {
		for i := from; i < to; i++ {
			line[i] = mark
		}
	}
	paint(min(place(a.Offset-a.Wait), start), start, markWait)
	paint(start, headers, markSilence)
	paint(headers, content, markHeaders)
	paint(content, end, markContent)
	if failed {
		line[end-1] = markFailed
	}
	return string(line)
}
