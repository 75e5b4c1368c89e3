package gateway

import (
	"context"
	"time"

	"shareai/internal/account"
	"shareai/internal/admission"
	"shareai/internal/catalog"
	"shareai/internal/openai"
	"shareai/internal/routing"
)

const (
	// promptBytes is how many bytes of a prompt are taken for a token.
	promptBytes = 4
	// assumedAnswer is how many tokens an answer without a limit takes from limits before it is known.
	assumedAnswer = 512
	// longestAnswer is what such an answer is expected to have at most, in tokens, where nobody knows what the model
	// can.
	longestAnswer = 16_384
	// leaseMargin is added to the deadline of a request: then whoever holds something is dead.
	leaseMargin = 30 * time.Second
)

// admit lets the request begin where every limit and budget that applies has room. A request without any costs a look
// at the bounds.
func (x *exchange) admit(ctx context.Context, p *account.Principal, plan *routing.Plan, request *openai.Request) error {
	models := boundedModels(plan)
	if p.Bounds == nil && models == nil {
		return nil
	}
	ask := admission.Request{
		ID: x.record.ID, Start: x.start, Lease: plan.Policy.Deadlines.Total + leaseMargin, Caller: p.Bounds, Models: models,
		Tokens: tokensOf(request, x.record.Endpoint, assumedAnswer), Cost: worst(plan, request, x.record.Endpoint),
		Strict: plan.Policy.OnLimitStoreFailure == catalog.LimitsReject,
	}
	if first := firstKept(plan); first != nil {
		for i := range models {
			if models[i].ID == first.Model.Name {
				ask.Model = &models[i]
			}
		}
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
	x.permit.Settle(admission.Outcome{Tokens: r.Tokens.Prompt + r.Tokens.Completion, Cost: r.Cost, Model: r.Model})
}

// boundedModels lists the bounds of the models that may answer; nil for nearly every plan.
func boundedModels(plan *routing.Plan) (bounds []account.Bound) {
	for i := range plan.Candidates {
		m := plan.Candidates[i].Model
		if plan.Candidates[i].Excluded != routing.Kept || !m.Limits.Any() && len(m.Budgets) == 0 || listed(bounds, m.Name) {
			continue
		}
		bounds = append(bounds, account.Bound{
			Scope: account.ByModel, ID: m.Name, Name: m.Name, Limits: m.Limits, Budgets: m.Budgets,
			Spending: account.Spending{Model: m.Name},
		})
	}
	return bounds
}

func listed(bounds []account.Bound, model string) bool {
	for i := range bounds {
		if bounds[i].ID == model {
			return true
		}
	}
	return false
}

func firstKept(plan *routing.Plan) *routing.Candidate {
	for i := range plan.Candidates {
		if plan.Candidates[i].Excluded == routing.Kept {
			return &plan.Candidates[i]
		}
	}
	return nil
}

// estimate guesses the tokens of a request whose answers are as long as they may be.
func estimate(r *openai.Request, e catalog.Endpoint, longest int64) catalog.Tokens {
	t := catalog.Tokens{Prompt: int64(r.PromptBytes)/promptBytes + 1}
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
	return c.Deployment.Price.Cost(estimate(r, e, longest))
}

// worst is the cost at the dearest deployment that may answer.
func worst(plan *routing.Plan, r *openai.Request, e catalog.Endpoint) (cost int64) {
	for i := range plan.Candidates {
		if c := &plan.Candidates[i]; c.Excluded == routing.Kept {
			cost = max(cost, costAt(c, r, e))
		}
	}
	return cost
}

// keepCheapest leaves the plan with its cheapest candidate alone.
func keepCheapest(plan *routing.Plan, r *openai.Request, e catalog.Endpoint) {
	var cheapest *routing.Candidate
	for i := range plan.Candidates {
		c := &plan.Candidates[i]
		if c.Excluded == routing.Kept && (cheapest == nil || costAt(c, r, e) < costAt(cheapest, r, e)) {
			cheapest = c
		}
	}
	for i := range plan.Candidates {
		if c := &plan.Candidates[i]; c.Excluded == routing.Kept && c != cheapest {
			c.Excluded = routing.OverBudget
		}
	}
}
