package storetest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"shareai/internal/alert"
	"shareai/internal/store"
)

// tellAll are the receivers of these tests.
var tellAll = []alert.Receiver{{Name: "ops"}, {Name: "chat"}}

func down() alert.Observation {
	return alert.Observation{Rule: alert.ProviderDown, Subject: "alpha", Level: alert.Bad, Bar: 0.25, Report: alert.Report{
		Title: "Provider is down", Text: "It is.", Details: map[string]any{"provider": "alpha"},
	}}
}

// stepped takes a step and stores it.
func stepped(t *testing.T, s *store.Store, before *alert.Episode, level alert.Level, at time.Time) *alert.Episode {
	t.Helper()
	seen := down()
	seen.Level = level
	after, edge := alert.Step(before, seen, alert.Pace{}, at)
	var tell []alert.Delivery
	if edge != alert.None {
		tell = after.Deliveries(edge, tellAll, at)
	}
	if won, err := s.StepEpisode(t.Context(), before, after, tell); err != nil || !won {
		t.Fatalf("step: %t, %v", won, err)
	}
	if before != nil {
		after.Version = before.Version + 1
	}
	return after
}

func episodes(t *testing.T, s *store.Store, endedAfter time.Time) []alert.Episode {
	t.Helper()
	list, err := s.Episodes(t.Context(), endedAfter)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func testEpisodes(t *testing.T, d Database) {
	s := d.Open(t)
	now := time.Now().UTC().Truncate(time.Microsecond)
	opened := stepped(t, s, nil, alert.Bad, now)
	if got := episodes(t, s, now); len(got) != 1 || cmp.Diff(*opened, got[0]) != "" {
		t.Fatalf("%s", cmp.Diff([]alert.Episode{*opened}, got))
	}
	if open, err := s.OpenEpisodes(t.Context()); err != nil || open[alert.ProviderDown] != 1 {
		t.Errorf("%v %v", open, err)
	}
	raised := stepped(t, s, opened, 7, now.Add(time.Second))
	ended := stepped(t, s, raised, alert.Well, now.Add(2*time.Second))
	again := d.Open(t) // a restart forgets nothing
	if got := episodes(t, again, now); len(got) != 1 || cmp.Diff(*ended, got[0]) != "" {
		t.Fatalf("%s", cmp.Diff([]alert.Episode{*ended}, got))
	}
	if got := episodes(t, again, now.Add(time.Minute)); len(got) != 0 {
		t.Errorf("old episodes: %+v", got)
	}
	messages, err := again.EpisodeDeliveries(t.Context(), opened.ID)
	if err != nil || len(messages) != 6 {
		t.Fatalf("%d messages, %v", len(messages), err)
	}
	pending, _ := alert.Step(nil, alert.Observation{Rule: alert.NodeGone, Subject: "n", Level: alert.Bad}, alert.Pace{After: time.Hour}, now)
	if won, err := s.StepEpisode(t.Context(), nil, pending, nil); err != nil || !won {
		t.Fatalf("%t %v", won, err)
	}
	if won, err := s.StepEpisode(t.Context(), pending, nil, nil); err != nil || !won {
		t.Fatalf("a pending episode can not be dropped: %t %v", won, err)
	}
	if err := s.TidyAlerts(t.Context(), now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got := episodes(t, s, time.Time{}); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	if messages, err := s.EpisodeDeliveries(t.Context(), opened.ID); err != nil || len(messages) != 0 {
		t.Errorf("%+v %v", messages, err)
	}
}

// Of many replicas that see the same, one tells it.
func testEpisodeRace(t *testing.T, d Database) {
	stores := []*store.Store{d.Open(t), d.Open(t), d.Open(t)}
	now := time.Now().UTC().Truncate(time.Microsecond)
	levels := []alert.Level{alert.Bad, 5, alert.Well}
	for round, level := range levels {
		won := make(chan bool, len(stores))
		var all sync.WaitGroup
		at := now.Add(time.Duration(round) * time.Second)
		var before *alert.Episode
		if live := episodes(t, stores[0], at); len(live) == 1 {
			before = &live[0]
		}
		for _, s := range stores {
			all.Go(func() {
				seen := down()
				seen.Level = level
				after, edge := alert.Step(before, seen, alert.Pace{}, at)
				is, err := s.StepEpisode(t.Context(), before, after, after.Deliveries(edge, tellAll, at))
				if err != nil {
					t.Error(err)
				}
				won <- is
			})
		}
		all.Wait()
		close(won)
		winners := 0
		for is := range won {
			if is {
				winners++
			}
		}
		if winners != 1 {
			t.Errorf("round %d: %d replicas tell", round, winners)
		}
	}
	live := episodes(t, stores[0], now)
	if len(live) != 1 {
		t.Fatalf("%+v", live)
	}
	if messages, err := stores[0].EpisodeDeliveries(t.Context(), live[0].ID); err != nil || len(messages) != len(levels)*len(tellAll) {
		t.Errorf("%d messages, %v", len(messages), err)
	}
}

// A message is handed to one who sends it, in the order of its episode, and comes back until it is finished.
func testOutbox(t *testing.T, d Database) {
	a, b := d.Open(t), d.Open(t)
	now := time.Now()
	opened := stepped(t, a, nil, alert.Bad, now)
	stepped(t, a, opened, 9, now)
	due := func(s *store.Store) []alert.Outgoing {
		t.Helper()
		list, err := s.DueDeliveries(t.Context(), 10)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	first := due(a)
	if each, err := a.DueDeliveries(t.Context(), 1); err != nil || len(each) != 2 {
		t.Fatalf("one for each receiver: %+v, %v", each, err)
	}
	if len(first) != 2 || first[0].Message.Event != "alert.opened" || first[1].Message.Event != "alert.opened" {
		t.Fatalf("the first of each receiver: %+v", first)
	}
	same := due(b)
	if diff := cmp.Diff(first, same, cmpopts.EquateComparable(alert.Moment{})); diff != "" {
		t.Fatal(diff)
	}
	one, err := a.ClaimDelivery(t.Context(), &first[0], time.Minute)
	other, err2 := b.ClaimDelivery(t.Context(), &same[0], time.Minute)
	if !one || other || err != nil || err2 != nil {
		t.Fatalf("claimed by %t and %t: %v %v", one, other, err, err2)
	}
	if left := due(b); len(left) != 1 || left[0].Receiver == first[0].Receiver {
		t.Errorf("while it is sent: %+v", left)
	}
	// A failed try comes back when its time has come, with what went wrong.
	if err := a.FinishDelivery(t.Context(), first[0].Message.ID, "it answered 503", now.Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	back := due(b)
	if len(back) != 2 || back[0].Tries+back[1].Tries != 1 {
		t.Fatalf("%+v", back)
	}
	for i := range back {
		if mine, err := b.ClaimDelivery(t.Context(), &back[i], time.Minute); err != nil || !mine {
			t.Fatalf("%t %v", mine, err)
		}
		if err := b.FinishDelivery(t.Context(), back[i].Message.ID, map[int]string{0: "", 1: "given up"}[i], time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	if next := due(a); len(next) != 2 || next[0].Message.Event != "alert.raised" {
		t.Errorf("the next ones: %+v", next)
	}
	states := map[string]int{}
	list, err := a.EpisodeDeliveries(t.Context(), opened.ID)
	for _, m := range list {
		states[m.State]++
	}
	if err != nil || states["delivered"] != 1 || states["failed"] != 1 || states["waiting"] != 2 {
		t.Errorf("%v %v", states, err)
	}
}

// Replicas add to the same minutes.
func testTallies(t *testing.T, d Database) {
	a, b := d.Open(t), d.Open(t)
	at := time.Now().Truncate(time.Minute)
	minutes := make([]alert.Minute, 0, 20)
	for i := range 20 {
		minutes = append(minutes, alert.Minute{
			At: at.Add(-time.Duration(i) * time.Minute), Of: alert.Counted{Scope: alert.OfModel, Name: fmt.Sprint(i % 2)},
			Tally: alert.Tally{Requests: 3, Failures: 2, FailedOver: 1, Extra: -5, Usual: 1 << 40},
		})
	}
	var all sync.WaitGroup
	for _, s := range []*store.Store{a, b, a, b} {
		all.Go(func() {
			if err := s.AddTallies(t.Context(), minutes); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	sums, err := a.Tallies(t.Context(), at.Add(-9*time.Minute), at.Add(time.Minute))
	want := map[alert.Counted]alert.Tally{}
	for _, name := range []string{"0", "1"} {
		want[alert.Counted{Scope: alert.OfModel, Name: name}] = alert.Tally{Requests: 60, Failures: 40, FailedOver: 20, Extra: -100, Usual: 20 << 40}
	}
	if diff := cmp.Diff(want, sums); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	if err := a.AddTallies(t.Context(), nil); err != nil {
		t.Error(err)
	}
	// The longest window is a day, and is compared with the day before it.
	early := alert.Minute{At: at.Add(-48 * time.Hour), Of: alert.Counted{Scope: alert.OfAll}, Tally: alert.Tally{Requests: 1}}
	if err := a.AddTallies(t.Context(), []alert.Minute{early}); err != nil {
		t.Fatal(err)
	}
	if err := a.TidyAlerts(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	if sums, err := a.Tallies(t.Context(), early.At, early.At.Add(time.Minute)); err != nil || sums[early.Of].Requests != 1 {
		t.Errorf("%v %v", sums, err)
	}
}

func testStandings(t *testing.T, d Database) {
	s := d.Open(t)
	known := alert.Standing{Providers: map[string]bool{"alpha": true}, Models: map[string]bool{"m": false}}
	for _, replica := range []string{"a", "a", "b"} {
		if err := s.PutStanding(t.Context(), replica, known); err != nil {
			t.Fatal(err)
		}
	}
	list, err := s.Standings(t.Context(), time.Now().Add(-time.Minute))
	if diff := cmp.Diff([]alert.Standing{known, known}, list); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	if list, err := s.Standings(t.Context(), time.Now().Add(time.Minute)); err != nil || len(list) != 0 {
		t.Errorf("stale ones: %+v %v", list, err)
	}
	if err := s.RemoveStanding(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if list, err := s.Standings(t.Context(), time.Time{}); err != nil || len(list) != 1 {
		t.Errorf("%+v %v", list, err)
	}
}
