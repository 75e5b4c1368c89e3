package attempt

import (
	"slices"

	"shareai/internal/catalog"
	"shareai/internal/upstream"
)

// scope is whom a failure concerns, and with that where another try may do better.
type scope int

const (
	ofDeployment scope = iota // this deployment: others may do better, and this one later
	ofSilence                 // this deployment, and it was slow to say so: others may do better
	ofSetup                   // this deployment, and it will not pass by itself: others may do better
	ofKey                     // the provider key: another one may do better, at once
	ofLength                  // the model: only a larger one may do better
	ofContent                 // what was asked: others may do better where the policy says so
	ofClient                  // the client: nobody does better
	ofGateway                 // a decision of the walk itself
)

// rule is what follows from an outcome.
type rule struct {
	scope scope
	class catalog.FailureClass // the word by which a policy may forbid failover; empty: it can not
	ill   bool                 // counts against the deployment's health
}

// rules is the one table by which retry, failover and circuits decide.
var rules = map[upstream.Outcome]rule{
	upstream.ConnectFailed:     {ofDeployment, catalog.FailConnect, true},
	upstream.ConnectTimeout:    {ofSilence, catalog.FailConnect, true},
	upstream.DNSFailed:         {ofDeployment, catalog.FailConnect, true},
	upstream.TLSFailed:         {ofSetup, catalog.FailConnect, true},
	upstream.RefusedAddress:    {ofSetup, catalog.FailConnect, true},
	upstream.NodeAway:          {ofDeployment, catalog.FailConnect, false}, // its link tells the planner
	upstream.NodeBusy:          {ofDeployment, catalog.FailOverloaded, false},
	upstream.Broken:            {ofDeployment, catalog.FailServerError, true},
	upstream.Overloaded:        {ofDeployment, catalog.FailOverloaded, true},
	upstream.ServerError:       {ofDeployment, catalog.FailServerError, true},
	upstream.BadAnswer:         {ofDeployment, catalog.FailBadAnswer, true},
	upstream.ErrorEvent:        {ofDeployment, catalog.FailBadAnswer, true},
	upstream.NoFinish:          {ofDeployment, catalog.FailBadAnswer, true},
	upstream.EmptyAnswer:       {ofDeployment, catalog.FailBadAnswer, false},
	upstream.TimeoutStatus:     {ofSilence, catalog.FailTimeout, true},
	upstream.HeadersTimeout:    {ofSilence, catalog.FailTimeout, true},
	upstream.FirstTokenTimeout: {ofSilence, catalog.FailTimeout, true},
	upstream.IdleTimeout:       {ofSilence, catalog.FailTimeout, true},
	upstream.NotFound:          {ofSetup, catalog.FailNotFound, true},
	upstream.RateLimited:       {ofKey, catalog.FailRateLimit, false},
	upstream.QuotaExhausted:    {ofKey, catalog.FailQuota, false},
	upstream.KeyRejected:       {ofKey, catalog.FailKey, false},
	upstream.ContextLength:     {ofLength, catalog.FailContext, false},
	upstream.ContentFilter:     {ofContent, "", false},
	upstream.ClientError:       {ofClient, "", false},
	upstream.Canceled:          {ofClient, "", false},
	upstream.TotalTimeout:      {ofClient, "", false},
	upstream.Diverged:          {ofGateway, "", false},
	upstream.Hedged:            {ofGateway, "", false},
}

// movesOn says whether the policy lets another deployment answer for a failure.
func (r rule) movesOn(policy *catalog.Policy) bool {
	return r.class == "" || len(policy.FailoverOn) == 0 || slices.Contains(policy.FailoverOn, r.class)
}
