package adminapi_test

import (
	"strings"
	"testing"

	"shareai/internal/account"
	"shareai/internal/adminapi"
	"shareai/internal/snapshot"
)

// planner stands for the data plane: it says what it was asked, by the view that it was given.
type planner struct{}

func (planner) DeploymentHealth(string) adminapi.DeploymentHealth {
	return adminapi.DeploymentHealth{Circuit: "closed", SuccessRate: 1}
}

func (planner) Plan(view *snapshot.Snapshot, who *account.Principal, q adminapi.PlanQuestion) (adminapi.PlanPreview, error) {
	out := adminapi.PlanPreview{Policy: who.Organization.Name + "/" + who.Project.Name + "/" + who.Key.Name, Refused: q.Endpoint + string(q.Request), Candidates: []adminapi.PlanCandidate{}}
	if route, ok := view.Route("chat"); ok {
		out.Route = route.Policy.Name
	}
	return out, nil
}

func TestAPlanBeforeItIsSaved(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	ask := func(body string) answer { return s.as(t, "viewer@acme", "POST /api/v1/plan", body) }
	got := decode[adminapi.PlanPreview](t, ask(`{"request":{"model":"chat"}}`), 200)
	if got.Policy != "acme/app/preview" || got.Refused != `chat{"model":"chat"}` {
		t.Errorf("%+v", got)
	}
	with := `{"request":{"model":"chat"},"key":"key_inference","policy":{"name":"bold","strategy":"cost"},"route":{"name":"chat","models":["chat"],"policy":"bold"}}`
	if got := decode[adminapi.PlanPreview](t, ask(with), 200); got.Policy != "acme/app/inference" || got.Route != "bold" {
		t.Errorf("%+v", got)
	}
	if _, ok := s.keeper.Current().Route("chat"); !ok || len(s.keeper.Current().Spec().Policies) != 0 {
		t.Error("it was saved")
	}
	ask(`{"request":{},"route":{"name":"x","models":["nowhere"]}}`).refusedWith(t, 400, "invalid_change")
	ask(`{"request":{},"policy":{"name":"x","deadlines":{"connect":"soon"}}}`).refusedWith(t, 400, "invalid_value")
	ask(`{"request":{},"key":"key_globex"}`).refusedWith(t, 404, "key_not_found")
	ask(`{"request":{},"project":"nowhere"}`).refusedWith(t, 404, "project_not_found")
	status := s.as(t, "viewer@globex", "GET /api/v1/deployments", "")
	if list := decode[adminapi.StatusList](t, status, 200); len(list.Deployments) != 2 || !strings.Contains(status.body, `"deployment":"alpha/a"`) {
		t.Errorf("%+v", list)
	}
}
