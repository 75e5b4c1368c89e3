package failover

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"shareai/internal/usage"
	"shareai/test/faultwall"
)

// cell is one field of the matrix with what happened in it.
type cell struct {
	form   form
	policy policy
	fault  faultwall.Fault
	want   want
	a, b   *faultwall.Server
	asked  *faultwall.Request
	body   string
	got    *received
}

func (c *cell) String() string { return c.fault.Name + ": " + c.form.name + ", " + c.policy.name }

// TestMatrix goes through every endpoint and mode, fault and policy. Where time is short, the faults of a row
// share a gateway, the first of them goes through everything, once before and once after content, and the others
// through a part.
func TestMatrix(t *testing.T) {
	cells := 0
	for _, group := range groups(t) {
		cells += len(group)
		t.Run(title(group), func(t *testing.T) {
			before := look()
			play(t, group)
			settles(t, group[0].fault.Name, before)
		})
	}
	t.Logf("%d faults, %d cells", len(faultwall.Catalogue()), cells)
}

// title names a group by its faults.
func title(group []*cell) string {
	var names []string
	for _, c := range group {
		names = append(names, c.fault.Name)
	}
	return strings.Join(slices.Compact(names), "+")
}

// groups are the cells that are asked at once: those of a row, or of a fault.
func groups(t *testing.T) (list [][]*cell) {
	place, seen := map[string]int{}, map[string]bool{}
	for _, fault := range faultwall.Catalogue() {
		row := of(t, fault)
		kind := fmt.Sprint(row.faults, fault.Sent == 0)
		all := long() || !seen[kind]
		seen[kind] = true
		var cells []*cell
		for _, f := range forms {
			for _, p := range policies {
				if fault.Strikes(f.stream) && (all || telling(f, p)) && affordable(fault, f, p) {
					cells = append(cells, &cell{form: f, policy: p, fault: fault, want: expect(f, fault, row, p)})
				}
			}
		}
		at, begun := place[row.faults]
		if !begun || long() || len(list[at])+len(cells) > maxCells {
			place[row.faults] = len(list)
			list = append(list, cells)
			continue
		}
		list[at] = append(list[at], cells...)
	}
	return list
}

// maxCells bounds what is asked at once: a machine with two processors should have it done well within a deadline.
const maxCells = 150

// telling picks the forms and policies that differ most.
func telling(f form, p policy) bool {
	return (f.plain || f.tools || f.path == embeddingsPath) && (p.name == "failover" || p.name == "prefill" || p.alone)
}

// affordable leaves out what would cost a lot and show little.
func affordable(fault faultwall.Fault, f form, p policy) bool {
	switch {
	case testing.Short():
		return p.name == "failover"
	case strings.HasPrefix(fault.Name, "event-oversized"):
		return f.plain && (p.name == "failover" || p.alone)
	default:
		return true
	}
}

// play asks all cells at once, through one gateway and with walls of their own, and judges what came of it.
func play(t *testing.T, cells []*cell) {
	t.Helper()
	g := start(t, prepare(t, cells))
	for _, c := range cells {
		c.a.Fail(c.fault)
	}
	var all sync.WaitGroup
	for _, c := range cells {
		all.Go(func() { c.got = g.ask(t.Context(), c.form.path, c.body) })
	}
	all.Wait()
	eventually(t, "the gateway lets go of every provider, whatever that did to it", patience, func() bool {
		return !slices.ContainsFunc(cells, func(c *cell) bool { return c.a.Active()+c.b.Active() > 0 })
	})
	record, done := g.records()
	defer done()
	for _, c := range cells {
		for _, problem := range c.judge(record) {
			t.Errorf("%s: %s\n  status %d, calls %d and %d, attempts %s\n  %.600s", c, problem,
				c.got.status, c.a.Calls(), c.b.Calls(), attempts(record, c.got), c.got.body)
		}
		c.a.Close()
		c.b.Close()
	}
}

// prepare gives each cell a model with two deployments, each at a wall of its own.
func prepare(t *testing.T, cells []*cell) (catalog string) {
	t.Helper()
	var providers, models, routes, rules strings.Builder
	patience := "5s" // no deadline is to pass on a busy machine, unless it is what a fault is about
	if row := of(t, cells[0].fault); row.means == silent || strings.Contains(cells[0].fault.Name, "stall") {
		patience = "1s"
	}
	for _, p := range policies {
		fmt.Fprintf(&rules, "  - {name: %s, deadlines: {connect: 5s, headers: %[2]s, first_token: %[2]s, idle: %[2]s, total: 8s}, attempts: {total: 5, per_deployment: 2}%[3]s}\n",
			p.name, patience, more(p.rules))
	}
	for i, c := range cells {
		c.a, c.b = wall(t), wall(t)
		if c.policy.restart {
			c.b.Prefills(faultwall.Refuse)
		}
		a, b, model := fmt.Sprintf("a%d", i), fmt.Sprintf("b%d", i), fmt.Sprintf("m%d", i)
		providers.WriteString(provider(a, c.a))
		providers.WriteString(provider(b, c.b))
		second := fmt.Sprintf(", {provider: %s, model: up}", b)
		served := model
		switch {
		case c.policy.alone:
			second = ""
		case c.policy.larger:
			second, served = "", model+", large-"+model
			models.WriteString(modelLine("large-"+model, c.policy, 64_000, fmt.Sprintf("{provider: %s, model: up}", b)))
		}
		models.WriteString(modelLine(model, c.policy, 32_000, fmt.Sprintf("{provider: %s, model: up}%s", a, second)))
		fmt.Fprintf(&routes, "  - {name: r%d, models: [%s], policy: %s}\n", i, served, c.policy.name)
		c.body = c.form.request(i, fmt.Sprintf("r%d", i))
		var err error
		if c.asked, err = faultwall.Read(c.form.path, []byte(c.body)); err != nil {
			t.Fatal(err)
		}
	}
	return "providers:\n" + providers.String() + "models:\n" + models.String() + "routes:\n" + routes.String() + "policies:\n" + rules.String()
}

func more(rules string) string {
	if rules == "" {
		return ""
	}
	return ", " + rules
}

func modelLine(name string, p policy, context int, deployments string) string {
	can := "tools, json_schema, reasoning, n, logprobs, embeddings"
	if p.prefill {
		can += ", prefill"
	}
	return fmt.Sprintf("  - {name: %s, context: %d, capabilities: [%s], deployments: [%s]}\n", name, context, can, deployments)
}

// judge compares a cell with the table.
func (c *cell) judge(record func(string) (usage.Record, error)) (problems []string) {
	miss := func(format string, a ...any) { problems = append(problems, fmt.Sprintf(format, a...)) }
	w, got := &c.want, c.got
	if a, b := c.a.Calls(), c.b.Calls(); w.ending != honest && (a != w.a && !c.fault.Down() || b != w.b) {
		miss("%d and %d calls, want %d and %d", a, b, w.a, w.b)
	}
	if err := c.sees(); err != nil {
		miss("want %s: %v", w.ending, err)
	}
	for _, secret := range []string{"sk-wall-", strings.TrimSuffix(strings.TrimPrefix(c.a.URL(), "http://"), "/v1")} {
		if strings.Contains(got.body, secret) {
			miss("the client sees %q", secret)
		}
	}
	r, err := record(got.header.Get("X-Request-Id"))
	if err != nil {
		return append(problems, "no record: "+err.Error())
	}
	return append(problems, c.recorded(&r)...)
}

// sees compares what the client got.
func (c *cell) sees() error {
	w, got := &c.want, c.got
	if w.ending == asGiven {
		meant := meant(c.asked.Answer())
		switch {
		case got.oddity != "" || got.broken != nil || !got.finished(c.form.stream):
			return fmt.Errorf("not a finished answer: %s %w", got.oddity, got.broken)
		case got.choices[0].Finish != w.finish || !got.choices[0].begins(meant[0]):
			return fmt.Errorf("%+v", got.choices[0])
		}
		return nil
	}
	if err := got.honest(c.asked); err != nil {
		return err
	}
	complete := got.finished(c.form.stream)
	switch w.ending {
	case whole:
		if !complete {
			return fmt.Errorf("it is not whole")
		}
		if c.form.stream && got.usage == nil {
			return fmt.Errorf("the usage chunk is missing")
		}
		if resumed := fmt.Sprint(got.usage["x-shareai-resumed"]); w.resumes != "" && !strings.Contains(got.body, "x-shareai-resumed") {
			return fmt.Errorf("the usage chunk does not say that the stream was resumed: %s", resumed)
		}
	case failed:
		if got.failure == nil {
			return fmt.Errorf("it is whole")
		}
		status := got.status
		if w.status == http.StatusBadRequest && status > 400 && status < 500 {
			status = w.status
		}
		if status != w.status || len(got.failure.Attempts) != w.a+w.b {
			return fmt.Errorf("status %d, want %d; %d attempts listed", got.status, w.status, len(got.failure.Attempts))
		}
		if (status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable) && got.header.Get("Retry-After") == "" {
			return fmt.Errorf("no Retry-After")
		}
	case interrupted:
		if got.status != http.StatusOK || got.failure == nil {
			return fmt.Errorf("status %d, error %+v", got.status, got.failure)
		}
	}
	return nil
}

// recorded compares what was written down.
func (c *cell) recorded(r *usage.Record) (problems []string) {
	miss := func(format string, a ...any) { problems = append(problems, fmt.Sprintf(format, a...)) }
	w := &c.want
	if calls := c.a.Calls() + c.b.Calls(); len(r.Attempts) != calls && !c.fault.Down() || len(r.Attempts) != w.a+w.b && w.ending != honest {
		miss("%d attempts are recorded", len(r.Attempts))
	}
	if len(r.Attempts) == 0 || !slices.Contains(strings.Fields(w.outcome), r.Attempts[0].Outcome) {
		miss("the first attempt is recorded otherwise than as %s", w.outcome)
	}
	if w.ending == honest || len(r.Attempts) == 0 {
		return problems
	}
	last := r.Attempts[len(r.Attempts)-1]
	if w.by != "" && (!strings.HasPrefix(last.Provider, w.by) || last.Outcome != "ok" || r.Provider != last.Provider) {
		miss("%s answered: %s %s; the record says %s", w.by, last.Provider, last.Outcome, r.Provider)
	}
	if last.Resumes != w.resumes || r.Resumed != (w.resumes != "" && w.by != "") {
		miss("resumed by %q (%t), want %q", last.Resumes, r.Resumed, w.resumes)
	}
	if n := c.got.header.Get("X-Shareai-Attempts"); w.by != "" && !c.form.stream && n != strconv.Itoa(len(r.Attempts)) {
		miss("x-shareai-attempts is %s", n)
	}
	return problems
}

func attempts(record func(string) (usage.Record, error), got *received) string {
	r, err := record(got.header.Get("X-Request-Id"))
	if err != nil {
		return err.Error()
	}
	var list []string
	for _, a := range r.Attempts {
		list = append(list, fmt.Sprintf("%s %s %d (%s)", a.Provider, a.Outcome, a.Status, a.Message))
	}
	return strings.Join(list, "; ")
}
