package adminapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"shareai/internal/account"
	"shareai/internal/fault"
	"shareai/internal/snapshot"
)

// Routing is what the data plane of this replica knows, and would do.
type Routing interface {
	// DeploymentHealth is how a deployment is doing, by its id; of one that was never asked, that it is well.
	DeploymentHealth(id string) DeploymentHealth
	// Plan says what would become of a request. Nothing is sent. A request that nobody could serve is no error: the
	// plan says why.
	Plan(view *snapshot.Snapshot, who *account.Principal, question PlanQuestion) (PlanPreview, error)
}

// DeploymentHealth is how a deployment is doing, as this replica has seen it.
type DeploymentHealth struct {
	Circuit      string     `json:"circuit" enum:"closed,open,half_open" doc:"closed: it takes requests."`
	SuccessRate  float64    `json:"success_rate" doc:"0 to 1, of late."`
	FirstTokenMS float64    `json:"first_token_ms,omitempty" doc:"Its usual time to the first token; missing: unknown."`
	AnswerMS     float64    `json:"answer_ms,omitempty" doc:"Its usual time to a whole answer."`
	Until        *time.Time `json:"until,omitempty" doc:"When an open circuit is tried again."`
}

// DeploymentStatus is a deployment with how it is doing.
type DeploymentStatus struct {
	Deployment string `json:"deployment" doc:"PROVIDER/MODEL"`
	Model      string `json:"model"`
	Provider   string `json:"provider"`
	Drained    bool   `json:"drained"`
	DeploymentHealth
}

// StatusList is a page of deployments.
type StatusList struct {
	Deployments []DeploymentStatus `json:"deployments" nullable:"false"`
	NextCursor
}

// PlanQuestion is a sample request.
type PlanQuestion struct {
	Endpoint string
	Request  []byte // as a client would send it
}

// PlanStart asks what would become of a request.
type PlanStart struct {
	Endpoint string         `json:"endpoint,omitempty" enum:"chat,completions,embeddings" doc:"Missing: chat."`
	Request  map[string]any `json:"request" doc:"As a client would send it; model is the name that it would ask for."`
	Key      string         `json:"key,omitempty" maxLength:"100" doc:"The id of the API key that would send it; missing: one that may everything."`
	Project  string         `json:"project,omitempty" maxLength:"63" doc:"Whose request it would be, where no key is named."`
	Policy   *Policy        `json:"policy,omitempty" doc:"As if this policy were declared, in the place of the one of its name."`
	Route    *Route         `json:"route,omitempty" doc:"As if this route were declared."`
	Model    *Model         `json:"model,omitempty" doc:"As if this model were declared."`
}

// PlanPreview is what would become of a request.
type PlanPreview struct {
	Route      string          `json:"route,omitempty"`
	Policy     string          `json:"policy,omitempty"`
	Candidates []PlanCandidate `json:"candidates" nullable:"false" doc:"In the order in which they would be tried; those that are left out say why."`
	Refused    string          `json:"refused,omitempty" doc:"Why nobody would serve it."`
}

// PlanCandidate is a deployment that would be considered.
type PlanCandidate struct {
	Deployment string  `json:"deployment"`
	Model      string  `json:"model"`
	Provider   string  `json:"provider"`
	Excluded   string  `json:"excluded,omitempty" doc:"Why it would be left out."`
	Origin     string  `json:"origin,omitempty" doc:"Why it would be considered: missing for the model itself; equivalent, policy, request."`
	Grade      float64 `json:"grade,omitempty"`
	DeploymentHealth
}

type (
	statusAnswer struct{ Body StatusList }
	planInput    struct{ Body PlanStart }
	planAnswer   struct{ Body PlanPreview }
)

func (a *API) addLive() {
	operation(a, huma.Operation{
		OperationID: "list-deployments", Method: http.MethodGet, Path: "/api/v1/deployments", Tags: []string{"Models"}, Summary: "Show how deployments are doing",
		Description: "As the replica that answers has seen them.",
	}, account.ReadCatalog, a.listDeployments)
	operation(a, huma.Operation{
		OperationID: "preview-plan", Method: http.MethodPost, Path: "/api/v1/plan", Tags: []string{"Routes and policies"}, Summary: "Show what would become of a request",
		Description: "Plans a sample request, as if a policy, route or model were declared. Nothing is sent, and nothing is stored.",
	}, account.ReadCatalog, a.previewPlan)
}

func (a *API) listDeployments(_ context.Context, caller *Caller, in *Page) (*statusAnswer, error) {
	view := a.Snapshots.Current()
	var all []DeploymentStatus
	for _, name := range view.Names() {
		m, ok := view.Model(name)
		if !ok { // a route
			continue
		}
		for i := range m.Targets {
			t := &m.Targets[i]
			if t.Provider.OpenTo(caller.Organization) {
				all = append(all, DeploymentStatus{Deployment: t.ID, Model: m.Name, Provider: t.Provider.Name, Drained: t.Limits.Drained, DeploymentHealth: a.Routing.DeploymentHealth(t.ID)})
			}
		}
	}
	page, next, err := pageOf(all, *in, func(d *DeploymentStatus) string { return d.Model + "\x00" + d.Deployment })
	return &statusAnswer{Body: StatusList{Deployments: append([]DeploymentStatus{}, page...), NextCursor: next}}, err
}

func (a *API) previewPlan(_ context.Context, caller *Caller, in *planInput) (*planAnswer, error) {
	view, err := a.supposed(&in.Body)
	if err != nil {
		return nil, err
	}
	who, err := a.supposedCaller(caller, &in.Body)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(in.Body.Request)
	if err != nil {
		return nil, err
	}
	question := PlanQuestion{Endpoint: in.Body.Endpoint, Request: text}
	if question.Endpoint == "" {
		question.Endpoint = "chat"
	}
	plan, err := a.Routing.Plan(view, who, question)
	return &planAnswer{Body: plan}, err
}

// supposed is the view as it would be with what is to be tried.
func (a *API) supposed(p *PlanStart) (*snapshot.Snapshot, error) {
	if p.Policy == nil && p.Route == nil && p.Model == nil {
		return a.Snapshots.Current(), nil
	}
	var change snapshot.Change
	for _, one := range []struct {
		list string
		view any
	}{{"policies", p.Policy}, {"routes", p.Route}, {"models", p.Model}} {
		spec, err := readEntry(one.list, one.view)
		if err != nil {
			return nil, err
		}
		change.Put = snapshot.Join(change.Put, spec)
	}
	view, err := snapshot.Compile(change.Apply(a.Snapshots.Current().Spec()))
	var problems snapshot.Problems
	if errors.As(err, &problems) {
		return nil, fault.New(fault.Invalid, "invalid_change", "This can not be done: "+strings.ReplaceAll(problems.Error(), "\n", "; "))
	}
	return view, err
}

// supposedCaller is who would send the request.
func (a *API) supposedCaller(caller *Caller, p *PlanStart) (*account.Principal, error) {
	if p.Key != "" {
		k, err := a.key(caller, p.Key)
		if err != nil {
			return nil, err
		}
		if who, ok := a.Snapshots.Current().Principal(k.Hash); ok {
			return who, nil
		}
		return nil, fault.New(fault.Conflict, "key_left_out", "This API key is not in force: its project or provider is not declared any more.").About("key")
	}
	spec := a.Snapshots.Current().Spec()
	at := slices.IndexFunc(spec.Projects, func(o account.Project) bool {
		return o.Organization == caller.Organization && (p.Project == "" || o.Name == p.Project)
	})
	if at < 0 {
		return nil, fault.New(fault.NotFound, "project_not_found", "There is no such project in "+caller.Organization+".").About("project")
	}
	return &account.Principal{
		Organization: &account.Organization{Name: caller.Organization}, Project: &spec.Projects[at],
		Key: &account.APIKey{Name: "preview", Organization: caller.Organization, Project: spec.Projects[at].Name},
	}, nil
}
