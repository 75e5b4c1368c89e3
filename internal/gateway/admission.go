package gateway

import (
	"context"
	"slices"
	"time"

	"shareai/internal/account"
	"shareai/internal/admission"
	"shareai/internal/catalog"
	"shareai/internal/openai"
	"shareai/internal/routing"
)

// longestAnswer is what such an answer is expected to have at most, in tokens, where nobody knows what the model can.
const longestAnswer = 16_384

// admit lets the request begin where every limit and budget that applies has room. A request without any costs a look
// at the bounds.
func (x *exchange) admit(ctx context.Context, p *account.Principal, plan *routing.Plan, request *openai.Request) error {
	models := boundedModels(plan)
	if p.Bounds == nil && models == nil {
		return nil
	}
	ask := admission.Request{
		ID: x.record.ID, Start: x.start, Caller: p.Bounds, Models: models,
		Tokens: tokensOf(request, x.record.Endpoint, routing.AssumedOutput), Cost: worst(plan, request, x.record.Endpoint),
		Strict: plan.Policy.OnLimitStoreFailure == catalog.LimitsReject,
	}
	for first := range plan.Kept() {
		if at := boundOf(models, first.Model.Name); at >= 0 {
			ask.Model = &models[at]
		}
		break
	}
	permit, rates, err := x.gateway.Admission.Admit(ctx, &ask)
	rates.Tell(x.out.header)
	if err != nil {
		return err
	}
	x.permit = permit
	if permit != nil && permit.Cheapest {
		keepCheapest(plan, request, x.record.Endpoint)
	}
	return nil
}

// release settles what the request has taken with what it has come to.
func (x *exchange) release() {
	r := &x.record
	x.permit.Settle(admission.Outcome{
		Tokens: r.Tokens.Prompt + r.Tokens.Completion, Cost: r.Cost, Model: r.Model, Ended: time.UnixMicro(r.Start + r.Duration),
	})
}

// boundedModels lists the bounds of the models that may answer; nil for nearly every plan.
func boundedModels(plan *routing.Plan) (bounds []account.Bound) {
	for c := range plan.Kept() {
		m := c.Model
		if !m.Limits.Any() && len(m.Budgets) == 0 || boundOf(bounds, m.Name) >= 0 {
			continue
		}
		bounds = append(bounds, account.Bound{
			Scope: account.ByModel, ID: m.Name, Name: m.Name, Limits: m.Limits, Budgets: m.Budgets,
			Spending: account.Spending{Model: m.Name},
		})
	}
	return bounds
}

// boundOf is the place of a model's bound; -1: it has none.
func boundOf(bounds []account.Bound, model string) int {
	return slices.IndexFunc(bounds, func(b account.Bound) bool { return b.ID == model })
}

// estimate guesses the tokens of a request whose answers are as long as they may be.
func estimate(r *openai.Request, e catalog.Endpoint, longest int64) catalog.Tokens {
	t := catalog.Tokens{Prompt: r.PromptTokens()}
	if e == catalog.Embeddings {
		return t
	}
	if t.Completion = r.MaxTokens; t.Completion == 0 {
		t.Completion = longest
	}
	t.Completion *= int64(max(r.N, 1))
	return t
}

func tokensOf(r *openai.Request, e catalog.Endpoint, longest int64) int64 {
	t := estimate(r, e, longest)
	return t.Prompt + t.Completion
}

// costAt is the most that a request is expected to cost at a deployment, in nano-dollars.
func costAt(c *routing.Candidate, r *openai.Request, e catalog.Endpoint) int64 {
	longest := c.Limits.MaxOutput
	if longest == 0 {
		longest = longestAnswer
	}
	return c.Deployment.Price.Most(estimate(r, e, longest))
}

// worst is the cost at the dearest deployment that may answer.
func worst(plan *routing.Plan, r *openai.Request, e catalog.Endpoint) (cost int64) {
	for c := range plan.Kept() {
		cost = max(cost, costAt(c, r, e))
	}
	return cost
}

// keepCheapest leaves the plan with its cheapest candidate alone.
func keepCheapest(plan *routing.Plan, r *openai.Request, e catalog.Endpoint) {
	var cheapest *routing.Candidate
	for c := range plan.Kept() {
		if cheapest == nil || costAt(c, r, e) < costAt(cheapest, r, e) {
			cheapest = c
		}
	}
	for c := range plan.Kept() {
		if c != cheapest {
			c.Excluded = routing.OverBudget
		}
	}
}
