package gateway

import (
	"net/http"

	"shareai/internal/attempt"
	"shareai/internal/catalog"
	"shareai/internal/routing"
	"shareai/internal/tokenizer"
)

// serve is the way of every model request, from top to bottom. Each step is a plain call that can be
// tested alone; an error of any step is written by the caller.
func (g *Gateway) serve(r *http.Request, x *exchange) error {
	view := g.Snapshots.Current()

	principal, err := authenticate(view, g.Snapshots.Stale, r.Header)
	if err != nil {
		return err
	}
	x.identify(principal)

	if err := g.Journal.Ready(); err != nil {
		return errNoRecord.Because(err)
	}
	held := holding{budget: &g.bodies}
	defer held.free()
	request, err := g.readRequest(x.out, r, &held)
	x.received(request)
	if err != nil {
		return err
	}

	if request.Stream && x.record.Endpoint == catalog.Embeddings {
		return errNoStream
	}
	ctx, played, err := x.once(r, request.Body)
	if err != nil || played {
		return err
	}

	wish, err := routing.ReadWish(request, r.Header)
	if err != nil {
		return err
	}
	needs := request.Needs()
	plan, err := routing.Make(view, routing.Ask{
		Principal: principal, Endpoint: x.record.Endpoint, Request: request, Needs: needs, Wish: wish,
		Count: func(family string) int64 { return tokenizer.Request(family, request.Field) },
		Draw:  g.Draw, Live: g.Live, Links: g.Links, Drills: running(view.Drills(principal.Key.ID), x.start),
	})
	x.planned(&plan, request)
	if err != nil {
		return err
	}
	if err := x.admit(ctx, principal, &plan, request); err != nil {
		return err
	}

	answer, err := g.Runner.Run(ctx, &attempt.Work{
		Plan: &plan, Endpoint: x.record.Endpoint, Request: request, Needs: needs,
		RequestID: x.record.ID, Start: x.start, Trace: x.trace, Log: &x.log, Part: principal.Part,
	})
	if err != nil {
		return err
	}
	x.answered(answer.Candidate)

	if answer.Stream == nil {
		return x.relayReply(&answer.Reply)
	}
	defer answer.Stream.Close()
	return x.relayStream(answer.Stream, request)
}
