package failover

import (
	"path"
	"strings"
	"testing"

	"shareai/test/faultwall"
)

// meaning is what a fault says about who may do better.
type meaning string

// The meanings.
const (
	good     meaning = "good"     // odd, but whole: nobody else is asked
	caller   meaning = "caller"   // the caller's own making: returned as it is, nobody else is asked
	tooLong  meaning = "too long" // only a larger model is asked
	refused  meaning = "refused"  // by a content filter, with an error: the policy decides
	filtered meaning = "filtered" // by a content filter, inside an answer: the policy decides as long as nothing was said
	empty    meaning = "empty"    // says nothing: others are asked, and it is given when there are none
	passing  meaning = "passing"  // another one at once; alone, the same again
	silent   meaning = "silent"   // another one at once; alone, an error: waiting twice helps nobody
	lasting  meaning = "lasting"  // another one at once; alone, an error: it will not pass soon
	lossy    meaning = "lossy"    // a piece of the text is lost: the whole text from elsewhere, or an error
)

// row says what follows from faults.
type row struct {
	faults   string // names, with * as in paths
	means    meaning
	outcomes string // words, any of which may stand in attempts
}

// table is the whole of it: every fault of the wall has exactly one row.
var table = []row{
	// Statuses.
	{"status-400 status-422", caller, "client_error"},
	{"status-401 status-403 key-as-400", lasting, "key_rejected"},
	{"status-404 model-not-found", lasting, "not_found"},
	{"quota quota-402", lasting, "quota_exhausted"},
	{"status-408 status-504", silent, "timeout_status"},
	{"status-409 status-503 status-503-seconds status-503-ms status-503-date status-503-nonsense status-529 status-529-seconds", passing, "overloaded"},
	{"status-503-huge", lasting, "overloaded"},
	{"status-429 status-429-seconds status-429-ms status-429-date", passing, "rate_limited"},
	{"status-429-huge", lasting, "rate_limited"},
	{"status-500 status-501 status-502 error-in-array", passing, "server_error"},
	{"status-500-endless", silent, "headers_timeout first_token_timeout idle_timeout server_error"},
	{"status-302 status-204", passing, "bad_answer"},
	{"context-*", tooLong, "context_length"},
	{"filter-*", refused, "content_filter"},

	// Connections and heads.
	{"refused", passing, "connect_failed"},
	{"reset-at-once close-at-once reset-unanswered", passing, "broken connect_failed"},
	{"close-unanswered half-status-line head-reset body-missing body-reset", passing, "broken"},
	{"no-http head-huge", passing, "bad_answer broken"},
	{"deaf silent head-stalls head-endless", silent, "headers_timeout first_token_timeout"},
	{"body-stalls", silent, "headers_timeout first_token_timeout idle_timeout"},

	// Whole answers.
	{"http10 trickle", good, "ok"},
	{"length-too-long chunks-unended body-cut body-reset-inside", passing, "broken"},
	{"length-too-short length-no-number chunks-broken", passing, "bad_answer broken"},
	{"gzip-*", passing, "bad_answer"},
	{"body-stalls-inside", silent, "idle_timeout headers_timeout"},
	{"json-* body-empty choices-none html text-type no-type", passing, "bad_answer"},
	{"error-200 error-200-text", passing, "error_event server_error"},
	{"error-200-code", passing, "overloaded"},
	{"answer-empty", empty, "empty_answer bad_answer"},
	{"filtered", filtered, "content_filter"},

	// Streams before their first content.
	{"stream-empty stream-only-done stream-only-bad", passing, "no_finish bad_answer"},
	{"stream-only-comments slow-first-token", silent, "first_token_timeout"},
	{"stream-answer-empty", empty, "empty_answer"},
	{"stream-filtered", filtered, "content_filter"},
	{"stream-html stream-text-type stream-json stream-gzip", passing, "bad_answer"},
	{"stream-error-200", passing, "error_event server_error"},
	{"stream-chunks-broken", passing, "bad_answer broken"},
	{"event-oversized", passing, "bad_answer"},

	// Streams, wherever they break.
	{"cut-after-* cut-before-*", passing, "broken"},
	{"reset-after-* reset-before-*", passing, "broken"},
	{"end-after-* end-before-* done-after-* done-before-*", passing, "no_finish"},
	{"stall-after-*", silent, "idle_timeout first_token_timeout"},
	{"stall-before-*", silent, "idle_timeout"},
	{"error-event-* error-data-* error-text-* error-object-*", passing, "error_event server_error"},
	{"error-number-*", passing, "overloaded"},
	{"error-limited-*", passing, "rate_limited"},
	{"chunks-broken-after-3 event-cut-after-3", passing, "bad_answer broken"},
	{"event-oversized-after-3", passing, "bad_answer"},
	{"lost-event-after-*", lossy, "bad_answer ok"},

	// Streams whose content is whole.
	{"bad-event-* split-utf8 split-utf8-events no-done finished-cut finished-reset finished-bad-event", good, "ok"},
	{"finished-stall done-stall", good, "ok"},
	{"stream-http10 stream-trickle stream-slow stream-crlf stream-no-space stream-two-lines stream-comments stream-no-role stream-at-once", good, "ok"},
	{"stream-filtered-after-3", filtered, "ok"},
}

// of finds the row of a fault.
func of(t testing.TB, f faultwall.Fault) row {
	t.Helper()
	var found []row
	for _, r := range table {
		for name := range strings.FieldsSeq(r.faults) {
			if ok, _ := path.Match(name, f.Name); ok {
				found = append(found, r)
			}
		}
	}
	if len(found) != 1 {
		t.Fatalf("the fault %s has %d rows in the table", f.Name, len(found))
	}
	return found[0]
}

func TestEveryFaultHasItsRow(t *testing.T) {
	used := map[string]bool{}
	for _, f := range faultwall.Catalogue() {
		used[of(t, f).faults] = true
	}
	for _, r := range table {
		if !used[r.faults] {
			t.Errorf("no fault is called %s", r.faults)
		}
	}
	if n := len(faultwall.Catalogue()); n < 40 {
		t.Errorf("%d faults", n)
	}
}
