package adminapi_test

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"shareai/internal/account"
	"shareai/internal/identity"
)

// permits is who may call which operation: the least role, the scopes of API keys, and "operator" where the role or
// key has to be of the organization that operates the installation. Whoever adds an operation adds its line.
var permits = map[string]string{
	"sign-in-options":   "public",
	"set-up":            "public",
	"sign-up":           "public",
	"sign-in":           "public",
	"forgot-password":   "public",
	"reset-password":    "public",
	"show-invitation":   "public",
	"accept-invitation": "public",
	"sso-start":         "public",
	"sso-callback":      "public",

	"me":                    "known",
	"sign-out":              "own",
	"rename-me":             "own",
	"list-sessions":         "own",
	"end-session":           "own",
	"end-other-sessions":    "own",
	"change-password":       "own",
	"enrol-second-factor":   "own",
	"confirm-second-factor": "own",
	"remove-second-factor":  "own",
	"unlink-sso":            "own",
	"leave-organization":    "own",
	"create-organization":   "own",

	"list-members":      "viewer read admin",
	"change-member":     "admin admin",
	"remove-member":     "admin admin",
	"list-invitations":  "admin admin",
	"invite":            "admin admin",
	"revoke-invitation": "admin admin",

	"list-keys":  "viewer read admin",
	"get-key":    "viewer read admin",
	"create-key": "member admin",
	"update-key": "member admin",
	"revoke-key": "member admin",

	"get-organization":    "viewer read admin",
	"update-organization": "admin admin",
	"list-projects":       "viewer read admin",
	"create-project":      "admin admin",
	"update-project":      "admin admin",

	"list-requests": "viewer read admin",
	"get-request":   "viewer read admin",
	"get-usage":     "viewer read admin",
	"export-usage":  "viewer read admin",
	"list-prompts":  "viewer read admin",
	"list-audit":    "admin admin operator",
	"verify-audit":  "admin admin operator",
	"export-audit":  "admin admin operator",

	"list-providers":      "viewer read admin operator",
	"get-provider":        "viewer read admin operator",
	"create-provider":     "admin admin operator",
	"replace-provider":    "admin admin operator",
	"delete-provider":     "admin admin operator",
	"list-models":         "viewer read admin",
	"get-model":           "viewer read admin",
	"create-model":        "admin admin operator",
	"replace-model":       "admin admin operator",
	"delete-model":        "admin admin operator",
	"list-routes":         "viewer read admin",
	"get-route":           "viewer read admin",
	"create-route":        "admin admin operator",
	"replace-route":       "admin admin operator",
	"delete-route":        "admin admin operator",
	"list-policies":       "viewer read admin",
	"get-policy":          "viewer read admin",
	"create-policy":       "admin admin operator",
	"replace-policy":      "admin admin operator",
	"delete-policy":       "admin admin operator",
	"put-provider-key":    "admin admin operator",
	"delete-provider-key": "admin admin operator",
	"drain-provider":      "admin admin operator",
	"resume-provider":     "admin admin operator",
	"set-default-policy":  "admin admin operator",
	"get-default-policy":  "viewer read admin",

	"list-alerts": "viewer read admin",

	"list-deployments": "viewer read admin",
	"preview-plan":     "viewer read admin",

	"start-drill": "member drills admin",
	"list-drills": "viewer drills read admin",
	"stop-drill":  "member drills admin",

	"list-nodes":              "viewer read admin",
	"get-node":                "viewer read admin",
	"revoke-node":             "admin admin",
	"rename-node":             "admin admin",
	"set-node-prices":         "admin admin",
	"drain-node":              "admin admin",
	"share-node":              "admin admin",
	"unshare-node":            "admin admin",
	"join-community":          "admin admin",
	"leave-community":         "admin admin",
	"get-community-statement": "viewer read admin",
	"resume-node":             "admin admin",
	"create-node-token":       "admin admin",
	"list-node-tokens":        "viewer read admin",
	"revoke-node-token":       "admin admin",
}

// people are the sessions of the tests: a token is ROLE@ORGANIZATION, or a true one.
type people struct{ *identity.Identity }

func (p people) SignedIn(ctx context.Context, token account.Secret) (*account.SignedIn, error) {
	role, organization, ok := strings.Cut(token.Reveal(), "@")
	if !ok {
		return p.Identity.SignedIn(ctx, token)
	}
	s := &account.SignedIn{User: account.User{ID: "user_" + role, Email: role + "@" + organization + ".example"}}
	for _, name := range strings.Split(organization, "+") {
		if name != "" {
			s.Memberships = append(s.Memberships, account.Membership{UserID: s.User.ID, Organization: name, Role: account.Role(role)})
		}
	}
	return s, nil
}

// described is an operation as the document has it.
type described struct {
	OperationID string `json:"operationId"`
	Permission  string `json:"x-permission"`
	Security    []map[string][]string
	what        string // "METHOD /path", with ids that nothing has
}

// described lists every operation of the document.
func (s *stage) described(t *testing.T) []described {
	t.Helper()
	var document struct {
		Paths map[string]map[string]described
	}
	if err := json.Unmarshal([]byte(s.call(t, "GET /api/openapi.json", "", "").body), &document); err != nil {
		t.Fatal(err)
	}
	var found []described
	for path, methods := range document.Paths {
		for method, operation := range methods {
			parts := strings.Split(path, "/")
			for i, part := range parts {
				if strings.HasPrefix(part, "{") {
					parts[i] = "unknown"
				}
			}
			operation.what = strings.ToUpper(method) + " " + strings.Join(parts, "/")
			found = append(found, operation)
		}
	}
	slices.SortFunc(found, func(a, b described) int { return cmp.Compare(a.OperationID, b.OperationID) })
	return found
}

// as sends a request in a session.
func (s *stage) as(t *testing.T, token, what, body string) answer {
	t.Helper()
	return s.sendWith(t, what, body, http.Header{"Cookie": {"shareai_session=" + token}, "Content-Type": {"application/json"}})
}

// denied says whether an answer is the refusal of a caller.
func (a answer) denied() bool {
	return a.status == http.StatusUnauthorized || a.status == http.StatusForbidden
}

// Every operation is tried as everybody. Nothing else of a request is looked at before.
func TestWhoMayCall(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	seen := map[string]bool{}
	for _, op := range s.described(t) {
		seen[op.OperationID] = true
		permit, ok := permits[op.OperationID]
		if !ok || op.Permission == "" {
			t.Errorf("%s (%s) has no line in permits", op.OperationID, op.what)
			continue
		}
		t.Run(op.OperationID, func(t *testing.T) {
			words := strings.Fields(permit)
			switch words[0] {
			case "public":
				s.tryPublic(t, op)
				return
			case "own":
				s.tryOwn(t, op)
				return
			case "known":
				s.tryKnown(t, op)
				return
			}
			s.tryStrangers(t, op)
			s.tryRoles(t, op, account.Role(words[0]), slices.Contains(words, "operator"))
			s.tryScopes(t, op, words[1:])
		})
	}
	for id := range permits {
		if !seen[id] {
			t.Errorf("there is no operation %s any more", id)
		}
	}
}

func (s *stage) tryPublic(t *testing.T, op described) {
	t.Helper()
	if len(op.Security) != 0 {
		t.Errorf("the document asks for %v", op.Security)
	}
	if got := s.call(t, op.what, "", "{}"); strings.Contains(got.body, "missing_api_key") {
		t.Errorf("anonymous: %d %s", got.status, got.body)
	}
}

// tryOwn: only people have an account of their own, whatever their role is.
func (s *stage) tryOwn(t *testing.T, op described) {
	t.Helper()
	s.call(t, op.what, "", "{}").refusedWith(t, 401, "missing_api_key")
	s.as(t, "over", op.what, "{}").refusedWith(t, 401, "session_ended")
	s.call(t, op.what, adminKey, "{}").refusedWith(t, 403, "session_required")
	if got := s.as(t, "viewer@acme", op.what, `{"broken`); got.denied() {
		t.Errorf("a viewer: %d %s", got.status, got.body)
	}
}

// tryKnown: whoever is known at all.
func (s *stage) tryKnown(t *testing.T, op described) {
	t.Helper()
	s.call(t, op.what, "", "{}").refusedWith(t, 401, "missing_api_key")
	s.call(t, op.what, revokedKey, "{}").refusedWith(t, 401, "revoked_api_key")
	s.as(t, "over", op.what, "{}").refusedWith(t, 401, "session_ended")
	if got := s.call(t, op.what, inferenceKey, "{}"); got.denied() {
		t.Errorf("an API key: %d %s", got.status, got.body)
	}
	if got := s.as(t, "viewer@acme+globex", op.what, "{}"); got.denied() {
		t.Errorf("a user: %d %s", got.status, got.body)
	}
}

func (s *stage) tryStrangers(t *testing.T, op described) {
	t.Helper()
	for _, sent := range []string{"{}", `{"broken`, strings.Repeat(" ", 1<<20)} {
		s.call(t, op.what, "", sent).refusedWith(t, 401, "missing_api_key")
		s.call(t, op.what, "key-of-nobody", sent).refusedWith(t, 401, "invalid_api_key")
		s.call(t, op.what, expiredKey, sent).refusedWith(t, 401, "expired_api_key")
		s.call(t, op.what, revokedKey, sent).refusedWith(t, 401, "revoked_api_key")
		s.call(t, op.what, inferenceKey, sent).refusedWith(t, 403, "missing_scope")
		s.as(t, "over", op.what, sent).refusedWith(t, 401, "session_ended")
		s.as(t, "owner@", op.what, sent).refusedWith(t, 403, "no_organization")
		s.as(t, "stranger@acme", op.what, sent).refusedWith(t, 403, "missing_role")
		s.as(t, "owner@acme", op.what+"?organization=globex", sent).refusedWith(t, 404, "organization_not_found")
		s.as(t, "owner@acme", op.what+"?organization=nowhere", sent).refusedWith(t, 404, "organization_not_found")
		s.as(t, "owner@acme+globex", op.what, sent).refusedWith(t, 400, "organization_required")
		s.call(t, op.what+"?organization=globex", adminKey, sent).refusedWith(t, 404, "organization_not_found")
	}
}

func (s *stage) tryRoles(t *testing.T, op described, least account.Role, operator bool) {
	t.Helper()
	for _, role := range account.Roles {
		for _, token := range []string{string(role) + "@acme", string(role) + "@acme+globex"} {
			got := s.as(t, token, op.what+"?organization=acme", `{"broken`)
			if role.Includes(least) == got.denied() {
				t.Errorf("%s, the least is %s: %d %s", token, least, got.status, got.body)
			}
		}
		elsewhere := s.as(t, string(role)+"@globex", op.what, `{"broken`)
		if (role.Includes(least) && !operator) == elsewhere.denied() {
			t.Errorf("%s of an organization that operates nothing: %d %s", role, elsewhere.status, elsewhere.body)
		}
	}
	if operator {
		s.call(t, op.what, otherOrgAdmin, "{}").refusedWith(t, 403, "operator_required")
	}
}

func (s *stage) tryScopes(t *testing.T, op described, may []string) {
	t.Helper()
	for scope, key := range map[string]string{"drills": drillsKey, "read": readKey, "admin": adminKey} {
		if got := s.call(t, op.what, key, `{"broken`); slices.Contains(may, scope) == got.denied() {
			t.Errorf("a key with the scope %s: %d %s", scope, got.status, got.body)
		}
		documented := slices.ContainsFunc(op.Security, func(demand map[string][]string) bool { return slices.Contains(demand["key"], scope) })
		if documented != slices.Contains(may, scope) {
			t.Errorf("the document says %v of %s", op.Security, scope)
		}
	}
}

// A key that is sent counts, not the session of the browser that sends it.
func TestAnAPIKeyWinsOverACookie(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	header := http.Header{"Cookie": {"shareai_session=owner@acme"}, "Authorization": {"Bearer " + inferenceKey}}
	s.sendWith(t, "GET /api/v1/drills", "", header).refusedWith(t, 403, "missing_scope")
	// Of two cookies the one counts that can have come this way.
	header = http.Header{"Cookie": {"__Host-shareai=viewer@acme; shareai_session=over"}}
	s.sendWith(t, "GET /api/v1/drills", "", header).refusedWith(t, 401, "session_ended")
	header.Set("X-Forwarded-Proto", "https")
	if got := s.sendWith(t, "GET /api/v1/drills", "", header); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// Another site can not make a browser act in the session that it has.
func TestOtherSitesCanDoNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for _, op := range s.described(t) {
		if strings.HasPrefix(op.what, "GET ") {
			continue
		}
		for _, evidence := range []http.Header{
			{"Sec-Fetch-Site": {"cross-site"}}, {"Sec-Fetch-Site": {"same-site"}}, {"Origin": {"https://elsewhere.example"}}, {"Origin": {"null"}},
		} {
			evidence.Set("Cookie", "shareai_session=owner@acme")
			evidence.Set("Content-Type", "application/json")
			s.sendWith(t, op.what, "{}", evidence).refusedWith(t, 403, "cross_site_request")
		}
	}
	for _, fine := range []http.Header{{"Sec-Fetch-Site": {"same-origin"}}, {"Sec-Fetch-Site": {"none"}}, {"Origin": {s.URL}}, {}} {
		fine.Set("Cookie", "shareai_session=owner@acme")
		fine.Set("Content-Type", "application/json")
		s.sendWith(t, "DELETE /api/v1/drills/unknown", "", fine).refusedWith(t, 404, "drill_not_found")
	}
	key := http.Header{"Sec-Fetch-Site": {"cross-site"}, "Authorization": {"Bearer " + drillsKey}}
	s.sendWith(t, "DELETE /api/v1/drills/unknown", "", key).refusedWith(t, 404, "drill_not_found")
}
