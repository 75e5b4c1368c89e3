package adminapi_test

import (
	"strings"
	"testing"

	"shareai/internal/adminapi"
)

func TestSharingByTheAPI(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	node := s.enrolled(t, adminKey, "desk", 1)
	path := " /api/v1/nodes/" + node.ID + "/share"
	body := `{"handle":"green-desk","display_name":"Green","listed":true,"models":["llama*"],"prices":[{"model":"*","input":0.5,"output":1}]}`
	shared := into[adminapi.Node](t, s.call(t, "PUT"+path, adminKey, body), 200)
	if v := shared.Share; v == nil || !v.Active || v.Handle != "green-desk" || v.Fee != 0.1 || v.Retention != "unknown" || v.Prices[0].CachedInput != 0.5 {
		t.Errorf("shared: %+v", v)
	}
	for sent, code := range map[string]string{
		strings.Replace(body, "0.5", "1.5", 1):              "price_above_limit",
		strings.Replace(body, "green-desk", "blue-desk", 1): "handle_stays",
		strings.Replace(body, "listed", "listd", 1):         "invalid_request",
	} {
		if got := s.call(t, "PUT"+path, adminKey, sent); got.status < 400 || !strings.Contains(got.body, code) {
			t.Errorf("%s: %d %s", code, got.status, got.body)
		}
	}
	if got := s.call(t, "PUT"+path, otherOrgAdmin, body); got.status != 404 {
		t.Errorf("another organization: %d %s", got.status, got.body)
	}
	if v := into[adminapi.Node](t, s.call(t, "DELETE"+path, adminKey, ""), 200).Share; v.Active || v.Ended == nil {
		t.Errorf("not shared: %+v", v)
	}
	statement := into[adminapi.CommunityStatement](t, s.call(t, "GET /api/v1/community/statement?month=2026-11", readKey, ""), 200)
	if statement.Organization != "acme" || statement.Month != "2026-11" || statement.NetUSD != "0" || statement.Lines == nil {
		t.Errorf("%+v", statement)
	}
	got := s.call(t, "GET /api/v1/community/statement?month=2026-11&format=csv", readKey, "")
	if !strings.HasPrefix(got.body, "month,handle,model,") || !strings.HasPrefix(got.header.Get("Content-Type"), "text/csv") {
		t.Errorf("%v %s", got.header, got.body)
	}
	if got := s.call(t, "GET /api/v1/community/statement?month=11", readKey, ""); got.status != 400 || !strings.Contains(got.body, "invalid_month") {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := s.call(t, "PUT /api/v1/community/membership", adminKey, ""); got.status != 409 || !strings.Contains(got.body, "managed_by_file") {
		t.Errorf("an organization of the file: %d %s", got.status, got.body)
	}
}
