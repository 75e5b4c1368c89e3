package control_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shareai/internal/catalog"
	"shareai/internal/control"
	"shareai/internal/snapshot"
)

// shareWorld is a nodeWorld whose operator has these terms.
func shareWorld(terms catalog.CommunityTerms) *nodeWorld {
	w := newNodeWorld()
	w.Control = control.New(control.Options{
		Rows: w.rows, Nodes: w.rows, Log: w.rows, Now: func() time.Time { return w.now }, File: func() snapshot.Spec { return snapshot.Spec{Community: terms} },
	})
	w.rows.spec.Nodes = []catalog.Node{
		{ID: "node_1", Name: "desk", Organization: "acme"}, {ID: "node_2", Name: "rack", Organization: "globex"},
	}
	return w
}

func priced(model string, input, output int64) catalog.NodePrice {
	return catalog.NodePrice{Model: model, Price: catalog.Price{Input: input, Output: output}}
}

func TestShareANode(t *testing.T) {
	t.Parallel()
	w := shareWorld(catalog.CommunityTerms{Enabled: true, Fee: 100_000, MaxPrice: &catalog.CommunityPrice{Input: 10, Output: 20}})
	ctx := t.Context()
	offer := control.ShareRequest{
		Handle: "green-desk", DisplayName: " Green Desk ", Listed: true, Models: []string{"llama*"},
		Prices: []catalog.NodePrice{priced("tiny", 1, 2), priced("*", 10, 20)},
	}
	first := w.now
	node, err := w.ShareNode(ctx, "desk", control.NodeFilter{Organization: "acme"}, offer)
	if err != nil {
		t.Fatal(err)
	}
	want := &catalog.NodeShare{
		Handle: "green-desk", DisplayName: "Green Desk", Listed: true, Models: []string{"llama*"}, Fee: 100_000, Since: first,
		Prices: []catalog.NodePrice{
			{Model: "*", Price: catalog.Price{Input: 10, Output: 20, CachedInput: 10}}, {Model: "tiny", Price: catalog.Price{Input: 1, Output: 2, CachedInput: 1}},
		},
	}
	if diff := cmp.Diff(want, node.Shared); diff != "" {
		t.Errorf("shared as\n%s", diff)
	}
	if _, err := w.ShareNode(ctx, "desk", control.NodeFilter{}, offer); err != nil || len(w.rows.acts) != 1 {
		t.Errorf("the same again: %v, %v", err, w.acts())
	}
	stolen := offer
	_, err = w.ShareNode(ctx, "rack", control.NodeFilter{}, stolen)
	wantFault(t, err, "handle_taken")
	w.now = w.now.Add(time.Hour)
	if node, err = w.UnshareNode(ctx, "desk", control.NodeFilter{}); err != nil || node.Shared.Active() {
		t.Errorf("%+v %v", node.Shared, err)
	}
	_, err = w.ShareNode(ctx, "rack", control.NodeFilter{}, stolen)
	wantFault(t, err, "handle_taken") // for good
	renamed := offer
	renamed.Handle = "blue-desk"
	_, err = w.ShareNode(ctx, "desk", control.NodeFilter{}, renamed)
	wantFault(t, err, "handle_stays")
	if node, err = w.ShareNode(ctx, "desk", control.NodeFilter{}, offer); err != nil || !node.Shared.Active() || !node.Shared.Since.Equal(first) {
		t.Errorf("again: %+v %v", node.Shared, err)
	}
	if diff := cmp.Diff([]string{"node.share", "node.unshare", "node.share"}, w.acts()); diff != "" {
		t.Errorf("the audit log:\n%s", diff)
	}
	_, err = w.ShareNode(ctx, "desk", control.NodeFilter{Organization: "globex"}, offer)
	wantFault(t, err, "node_not_found")
}

func TestSharesThatAreRefused(t *testing.T) {
	t.Parallel()
	w := shareWorld(catalog.CommunityTerms{Enabled: true, MaxPrice: &catalog.CommunityPrice{Input: 10, Output: 20}})
	for code, change := range map[string]func(*control.ShareRequest){
		"invalid_handle":        func(r *control.ShareRequest) { r.Handle = "A/b" },
		"invalid_display_name":  func(r *control.ShareRequest) { r.DisplayName = "ana\u202e" },
		"invalid_retention":     func(r *control.ShareRequest) { r.Retention = "never" },
		"invalid_model_pattern": func(r *control.ShareRequest) { r.Models = []string{"["} },
		"price_above_limit":     func(r *control.ShareRequest) { r.Prices = []catalog.NodePrice{priced("*", 11, 0)} },
		"invalid_price":         func(r *control.ShareRequest) { r.Prices = []catalog.NodePrice{priced("*", -1, 0)} },
		"too_many_models":       func(r *control.ShareRequest) { r.Models = make([]string, 101) },
	} {
		r := control.ShareRequest{Handle: "desk-1"}
		change(&r)
		_, err := w.ShareNode(t.Context(), "desk", control.NodeFilter{}, r)
		wantFault(t, err, code)
	}
	_, err := shareWorld(catalog.CommunityTerms{}).ShareNode(t.Context(), "desk", control.NodeFilter{}, control.ShareRequest{Handle: "desk-1"})
	wantFault(t, err, "community_off")
	if len(w.rows.acts) != 0 {
		t.Errorf("logged: %v", w.acts())
	}
}

func TestJoinAndLeave(t *testing.T) {
	t.Parallel()
	w := shareWorld(catalog.CommunityTerms{})
	if o, err := w.JoinCommunity(t.Context(), "acme"); err != nil || !o.Community {
		t.Errorf("%+v %v", o, err)
	}
	if !w.rows.spec.Organizations[0].Community {
		t.Error("it is not stored")
	}
	if o, err := w.LeaveCommunity(t.Context(), "acme"); err != nil || o.Community {
		t.Errorf("%+v %v", o, err)
	}
	if from, to, err := w.CommunityMonth("2026-12"); err != nil || to.Sub(from) != 31*24*time.Hour || from.Day() != 1 {
		t.Errorf("%s to %s %v", from, to, err)
	}
	_, _, err := w.CommunityMonth("12/2026")
	wantFault(t, err, "invalid_month")
}
