package adminapi_test

import (
	"testing"
	"time"

	"shareai/internal/adminapi"
	"shareai/internal/alert"
)

// The operator sees every alert and who was told; another organization what concerns it alone.
func TestAlertsAreSeenByWhomTheyConcern(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	now := time.Now()
	for i, organization := range []string{"", "acme", "globex"} {
		e, edge := alert.Step(nil, alert.Observation{
			Rule: alert.Budget, Subject: "b" + organization, Level: alert.Bad, Report: alert.Report{Title: "t" + organization, Organization: organization},
		}, alert.Pace{}, now.Add(time.Duration(i)*time.Second))
		if won, err := s.rows.StepEpisode(t.Context(), nil, e, e.Deliveries(edge, []alert.Receiver{{Name: "ops"}}, now)); err != nil || !won {
			t.Fatalf("%t %v", won, err)
		}
	}
	all := decode[adminapi.AlertList](t, s.call(t, "GET /api/v1/alerts?limit=2", readKey, ""), 200)
	if len(all.Alerts) != 2 || all.Alerts[0].Organization != "globex" || len(all.Alerts[0].Messages) != 1 || all.Alerts[0].Messages[0].State != "waiting" || all.Next == "" {
		t.Errorf("%+v", all)
	}
	rest := decode[adminapi.AlertList](t, s.call(t, "GET /api/v1/alerts?limit=2&cursor="+all.Next, readKey, ""), 200)
	if len(rest.Alerts) != 1 || rest.Alerts[0].Organization != "" || rest.Next != "" {
		t.Errorf("%+v", rest)
	}
	own := decode[adminapi.AlertList](t, s.call(t, "GET /api/v1/alerts?state=open", otherOrgAdmin, ""), 200)
	if len(own.Alerts) != 1 || own.Alerts[0].Organization != "globex" || len(own.Alerts[0].Messages) != 0 {
		t.Errorf("%+v", own)
	}
}
