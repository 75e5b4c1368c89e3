package storetest

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"shareai/internal/account"
	"shareai/internal/usage"
)

// What was spent agrees with the records to the nano-dollar, for every owner and for times that begin and end anywhere.
func testSpent(t *testing.T, d Database) {
	s := d.Open(t)
	all := records(400) // nearly three days
	insert(t, s, all)
	at := epoch.Add
	for _, of := range []account.Spending{
		{Organization: "acme"},
		{Organization: "acme", Projects: []string{"app"}},
		{Organization: "other", Projects: []string{"web", "lab"}},
		{KeyID: "key_3"},
		{Model: "llama"},
		{Organization: "acme", Label: "team", LabelValue: "search"},
		{Organization: "other", Label: "team", LabelValue: "it's \"x\""},
		{Organization: "other", Label: "environment", LabelValue: "staging"},
		{Organization: "nobody"},
	} {
		for _, span := range [][2]time.Time{
			{at(-time.Hour), at(100 * time.Hour)},
			{at(2 * time.Hour), at(26 * time.Hour)},                                   // whole days
			{at(2 * time.Hour), at(26*time.Hour + 40*time.Minute)},                    // and a part of an hour
			{at(2*time.Hour + 5*time.Minute), at(26*time.Hour + 40*time.Minute + 1)},  // at both ends
			{at(10 * time.Minute), at(50 * time.Minute)},                              // within an hour
			{at(90 * time.Minute), at(2*time.Hour + 30*time.Minute)},                  // across midnight
			{at(30 * time.Minute), at(30 * time.Minute)},                              // none
			{at(20 * time.Minute), at(20*time.Minute + time.Microsecond)},             // one moment
			{at(20*time.Minute + time.Microsecond), at(30*time.Minute + time.Second)}, // from the next one on
		} {
			of.From, of.To = span[0], span[1]
			got, err := s.Spent(t.Context(), of)
			if err != nil {
				t.Fatal(err)
			}
			if want := spent(all, of); got != want {
				t.Errorf("%+v: %d, want %d", of, got, want)
			}
		}
	}
}

func spent(records []usage.Record, of account.Spending) (sum int64) {
	for _, r := range records {
		if (of.Organization == "" || r.Organization == of.Organization) && (len(of.Projects) == 0 || slices.Contains(of.Projects, r.Project)) &&
			(of.KeyID == "" || r.KeyID == of.KeyID) && (of.Model == "" || r.Model == of.Model) &&
			(of.Label == "" || r.Labels[of.Label] == of.LabelValue) &&
			r.Start >= of.From.UnixMicro() && r.Start < of.To.UnixMicro() {
			sum += r.Cost
		}
	}
	return sum
}

// A time that begins in the middle of a day whose hours were dropped has all of that day.
func testSpentBeforeRetention(t *testing.T, d Database) {
	s := d.Open(t)
	all := records(400)
	insert(t, s, all)
	if _, err := s.DropRecords(t.Context(), epoch.Add(26*time.Hour)); err != nil { // the first two days
		t.Fatal(err)
	}
	of := account.Spending{Organization: "acme", From: epoch.Add(12 * time.Hour), To: epoch.Add(100 * time.Hour)}
	got, err := s.Spent(t.Context(), of)
	of.From = epoch.Add(2 * time.Hour) // midnight
	if want := spent(all, of); err != nil || got != want {
		t.Errorf("%d, want %d, %v", got, want, err)
	}
}

// What had not ended at a moment is left out, wherever its request began.
func testSpentBefore(t *testing.T, d Database) {
	s := d.Open(t)
	at := epoch.Add(48*time.Hour + 10*time.Minute)
	var all []usage.Record
	for i, r := range []struct{ start, duration time.Duration }{
		{-40 * time.Hour, time.Second},
		{-50 * time.Minute, 49 * time.Minute},
		{-50 * time.Minute, 50*time.Minute - time.Microsecond},
		{-50 * time.Minute, 50 * time.Minute},
		{-time.Second, time.Minute},
		{-15 * time.Minute, 16 * time.Minute}, // from the day before
		{0, 0},
		{time.Hour, time.Second},
	} {
		all = append(all, usage.Record{
			ID: usage.FirstID(at.Add(r.start)) + strconv.Itoa(i), Organization: "acme", Project: "app", KeyID: "key_1",
			Start: at.Add(r.start).UnixMicro(), Duration: r.duration.Microseconds(), Cost: 1 << i,
		})
	}
	insert(t, s, all)
	for _, span := range [][2]time.Time{{epoch, epoch.Add(30 * 24 * time.Hour)}, {at.Add(-time.Hour), at.Add(90 * time.Minute)}, {at.Add(-5 * time.Minute), at}} {
		of := account.Spending{Organization: "acme", From: span[0], To: span[1], Ended: at}
		want := int64(0)
		for _, r := range all {
			if r.Start >= of.From.UnixMicro() && r.Start < of.To.UnixMicro() && r.Start+r.Duration < at.UnixMicro() {
				want += r.Cost
			}
		}
		if got, err := s.Spent(t.Context(), of); err != nil || got != want {
			t.Errorf("%s to %s: %b, want %b, %v", of.From, of.To, got, want, err)
		}
	}
}
