package timeline

import (
	"fmt"
	"strings"

	"shareai/internal/catalog"
)

// Draw writes a trace for people: what it was, what was considered, and its attempts on a time line.
func Draw(p Page, v *Trace) {
	p.Print("%s\n\n", p.Bold(v.ID))
	for _, f := range v.facts() {
		wrapped(p, fmt.Sprintf("  %-9s  ", f.name), f.text, plain)
	}
	if len(v.Candidates) > 0 {
		p.Print("\n%s\n", p.Bold("Candidates, in the order in which they were considered"))
		candidates(p, v)
	}
	if len(v.Attempts) == 0 {
		p.Print("\nNo provider was asked.\n")
		return
	}
	p.Print("\n%s\n", p.Bold("Attempts"))
	attempts(p, v)
}

type fact struct{ name, text string }

func (v *Trace) facts() []fact {
	who := v.KeyID
	if v.KeyName != "" {
		who = v.KeyName + " (" + v.KeyID + ")"
	}
	asked := v.Endpoint
	if v.Stream {
		asked += ", stream"
	}
	if v.Requested != "" {
		asked += fmt.Sprintf(", model %q", v.Requested)
	}
	facts := []fact{
		{"when", v.Start.Format("2006-01-02 15:04:05.000 UTC")},
		{"who", fmt.Sprintf("%s/%s, key %s", v.Organization, v.Project, who)},
		{"asked", asked},
	}
	if v.Policy != "" {
		by := "policy " + v.Policy
		if v.Route != "" {
			by = "route " + v.Route + ", " + by
		}
		facts = append(facts, fact{"routed", by})
	}
	if v.Provider != "" {
		facts = append(facts, fact{"answered", fmt.Sprintf("%s at %s", v.Model, v.Deployment)})
	}
	switch v.Reason {
	case "":
	case "primary":
		facts = append(facts, fact{"because", "it is the primary, and was well"})
	default:
		facts = append(facts, fact{"because", v.Reason})
	}
	status := fmt.Sprint(v.Status)
	if v.Code != "" {
		status += " " + v.Code
	}
	facts = append(facts, fact{"status", status}, fact{"took", v.took()},
		fact{"tokens", tokensText(v.Tokens)}, fact{"cost", "$" + v.CostUSD})
	if text := v.compared(); text != "" {
		facts = append(facts, fact{"compared", text})
	}
	if v.Resumed {
		facts = append(facts, fact{"resumed", "a stream broke, and another attempt completed it"})
	}
	if v.Drill != "" {
		facts = append(facts, fact{"drill", v.Drill + ": what is marked with it below was rehearsed"})
	}
	facts = append(facts, fact{"size", fmt.Sprintf("%s bytes in, %s out", Number(v.BytesIn), Number(v.BytesOut))})
	if v.TraceID != "" {
		facts = append(facts, fact{"trace", v.TraceID})
	}
	return facts
}

// compared says what it cost, in money and time, that the primary did not simply answer. Empty: it did,
// or nobody answered.
func (v *Trace) compared() string {
	d := v.Difference
	if d == nil || v.Deployment == v.Primary.Deployment && d.CostNano == 0 && d.Lost == 0 {
		return ""
	}
	text := "the same cost"
	if d.CostNano != 0 {
		text = "cost " + signedUSD(d.CostNano)
		if of := v.Primary.CostNano; of > 0 {
			text += fmt.Sprintf(" (%s %%)", signedShare(float64(d.CostNano)/float64(of)))
		}
	}
	if d.Lost == 0 {
		text += " and no time lost"
	} else {
		text += " and " + signedUS(d.Lost)
	}
	text += " against the primary " + v.Primary.Deployment
	if d.Usual == nil {
		return text
	}
	what := "answer"
	if v.Stream {
		what = "first token"
	}
	return text + fmt.Sprintf(", whose %s usually takes %s (this one: %s)", what, us(v.Primary.Latency), signedUS(*d.Usual))
}

func signedUSD(nano int64) string {
	if nano < 0 {
		return "-$" + catalog.FormatUSD(-nano)
	}
	return "+$" + catalog.FormatUSD(nano)
}

// signedShare writes a share in percent; below one percent with a digit more.
func signedShare(share float64) string {
	if percent := 100 * share; percent > -1 && percent < 1 {
		return fmt.Sprintf("%+.1f", percent)
	}
	return fmt.Sprintf("%+.0f", 100*share)
}

func signedUS(n int64) string {
	if n < 0 {
		return "-" + us(-n)
	}
	return "+" + us(n)
}

func (v *Trace) took() string {
	text := us(v.Duration)
	if v.FirstToken > 0 && v.Stream {
		text += ", first token after " + us(v.FirstToken)
	}
	return text
}

func tokensText(tk catalog.Tokens) string {
	text := fmt.Sprintf("%s prompt", Number(tk.Prompt)) +
		partsText(tokenPart{tk.Cached, "cached"}, tokenPart{tk.CacheWrite, "written to the cache"}, tokenPart{tk.AudioInput, "audio"})
	text += fmt.Sprintf(", %s completion", Number(tk.Completion)) +
		partsText(tokenPart{tk.Reasoning, "reasoning"}, tokenPart{tk.AudioOutput, "audio"})
	if tk.Estimated {
		return text + ", estimated"
	}
	return text
}

// tokenPart is what some tokens are.
type tokenPart struct {
	tokens int64
	kind   string
}

func partsText(parts ...tokenPart) string {
	var said []string
	for _, p := range parts {
		if p.tokens > 0 {
			said = append(said, Number(p.tokens)+" "+p.kind)
		}
	}
	if said == nil {
		return ""
	}
	return " (" + strings.Join(said, ", ") + ")"
}

// us writes microseconds for people.
func us(n int64) string {
	switch {
	case n < 10_000:
		return fmt.Sprintf("%.1f ms", float64(n)/1000)
	case n < 10_000_000:
		return fmt.Sprintf("%d ms", (n+500)/1000)
	default:
		return fmt.Sprintf("%.1f s", float64(n)/1e6)
	}
}
