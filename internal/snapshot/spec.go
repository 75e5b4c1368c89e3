package snapshot

import (
	"fmt"
	"strings"

	"shareai/internal/account"
	"shareai/internal/alert"
	"shareai/internal/catalog"
)

// Spec is everything that can be declared, by the configuration file and by rows of the store alike.
// Compile turns it into a Snapshot or says what is wrong with it.
type Spec struct {
	Organizations []account.Organization
	Projects      []account.Project
	Keys          []account.APIKey
	Providers     []catalog.Provider
	Models        []catalog.Model
	Routes        []catalog.Route
	Policies      []catalog.Policy
	Drills        []catalog.Drill
	Nodes         []catalog.Node
	Alerts        alert.Settings // zero: the defaults, and nobody is told
	Community     catalog.CommunityTerms
	DefaultPolicy string // empty: the built-in default
}

// Join returns the declarations of both, those of a first: it is the file, whose organizations and
// projects are in force where both declare them. What else both declare, Compile reports.
func Join(a, b Spec) Spec {
	j := Spec{
		Organizations: append(append([]account.Organization(nil), a.Organizations...), b.Organizations...),
		Projects:      append(append([]account.Project(nil), a.Projects...), b.Projects...),
		Keys:          append(append([]account.APIKey(nil), a.Keys...), b.Keys...),
		Providers:     append(append([]catalog.Provider(nil), a.Providers...), b.Providers...),
		Models:        append(append([]catalog.Model(nil), a.Models...), b.Models...),
		Routes:        append(append([]catalog.Route(nil), a.Routes...), b.Routes...),
		Policies:      append(append([]catalog.Policy(nil), a.Policies...), b.Policies...),
		Drills:        append(append([]catalog.Drill(nil), a.Drills...), b.Drills...),
		Nodes:         append(append([]catalog.Node(nil), a.Nodes...), b.Nodes...),
		Alerts:        a.Alerts,
		Community:     a.Community,
		DefaultPolicy: a.DefaultPolicy,
	}
	if j.DefaultPolicy == "" {
		j.DefaultPolicy = b.DefaultPolicy
	}
	return j
}

// Problem is one thing that is wrong with a Spec. Path names the declaration and the field in it with
// dots: "providers.alpha.base_url", "models.llama.deployments.0.provider". A name may itself contain
// dots; the parts are kept apart in Parts.
type Problem struct {
	Parts   []string
	Message string
	Hint    string
}

// Path is the dotted form of Parts.
func (p Problem) Path() string { return strings.Join(p.Parts, ".") }

func (p Problem) String() string {
	s := p.Path() + ": " + p.Message
	if p.Hint != "" {
		s += " (" + p.Hint + ")"
	}
	return s
}

// Problems is the error of a Spec that does not compile.
type Problems []Problem

// Error lists every problem, one a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Found adds a problem to the list.
func (ps *Problems) Found(hint string, parts []string, format string, args ...any) {
	*ps = append(*ps, Problem{Parts: parts, Message: fmt.Sprintf(format, args...), Hint: hint})
}
