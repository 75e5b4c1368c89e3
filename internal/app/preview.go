package app

import (
	"math/rand/v2"

	"shareai/internal/account"
	"shareai/internal/adminapi"
	"shareai/internal/catalog"
	"shareai/internal/fault"
	"shareai/internal/health"
	"shareai/internal/openai"
	"shareai/internal/routing"
	"shareai/internal/snapshot"
	"shareai/internal/tokenizer"
)

// preview shows the control plane what the data plane knows and would do, and moves nothing there.
type preview struct {
	board *health.Board
	links routing.Links
}

// Look implements routing.Live.
func (p preview) Look(id string) health.View { return p.board.Look(id) }

// Turn implements routing.Live. It leaves the sequences alone by which traffic is shared out.
func (preview) Turn(string) float64 { return rand.Float64() }

// DeploymentHealth implements adminapi.Routing.
func (p preview) DeploymentHealth(id string) adminapi.DeploymentHealth {
	view := p.board.Look(id)
	return adminapi.DeploymentHealth{
		Circuit: string(view.State), SuccessRate: view.SuccessRate,
		FirstTokenMS: float64(view.Latency[health.FirstToken].Microseconds()) / 1000, AnswerMS: float64(view.Latency[health.WholeAnswer].Microseconds()) / 1000,
	}
}

// Plan implements adminapi.Routing.
func (p preview) Plan(view *snapshot.Snapshot, who *account.Principal, q adminapi.PlanQuestion) (adminapi.PlanPreview, error) {
	request, err := openai.ParseRequest(q.Request)
	if err != nil {
		return adminapi.PlanPreview{}, err
	}
	wish, err := routing.ReadWish(request, nil)
	if err != nil {
		return adminapi.PlanPreview{}, err
	}
	plan, refused := routing.Make(view, routing.Ask{
		Principal: who, Endpoint: catalog.Endpoint(q.Endpoint), Request: request, Needs: request.Needs(), Wish: wish,
		Count: func(family string) int64 { return tokenizer.Request(family, request.Field) },
		Draw:  rand.Float64, Live: p, Links: p.links,
	})
	out := adminapi.PlanPreview{Route: plan.Route, Candidates: []adminapi.PlanCandidate{}}
	if plan.Policy != nil {
		out.Policy = plan.Policy.Name
	}
	if refused != nil {
		out.Refused = fault.From(refused).Message
	}
	for i := range plan.Candidates {
		c := &plan.Candidates[i]
		out.Candidates = append(out.Candidates, adminapi.PlanCandidate{
			Deployment: c.ID, Model: c.Model.Name, Provider: c.Provider.Name, Excluded: string(c.Excluded), Origin: string(c.Origin), Grade: c.Grade,
			DeploymentHealth: p.DeploymentHealth(c.ID),
		})
	}
	return out, nil
}
