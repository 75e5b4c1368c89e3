package smoke

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const testKey = "sk-shareai-canary-0123456789"

// records is the ledger of a double.
type records struct{ *double }

func (r records) Entry(_ context.Context, id string) (Entry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.records[id]
	if !ok {
		return e, errors.New("there is no record " + id)
	}
	return e, nil
}

// short is a line without what differs from run to run.
type short struct {
	Part    Part
	Subject string
	Verdict Verdict
	Detail  string
}

var spans = regexp.MustCompile(`\d+(\.\d+)? ms`)

func shorten(lines []Line) []short {
	list := make([]short, len(lines))
	for i, l := range lines {
		list[i] = short{l.Part, l.Subject, l.Verdict, spans.ReplaceAllString(l.Detail, "N ms")}
	}
	return list
}

// G: the five parts against a gateway without a fault.
func TestAFaultlessGatewayPasses(t *testing.T) {
	gateway, url := newDouble(t, "")
	var observed []Line
	got := Run(t.Context(), Options{
		Gateway: url + "/v1/", Key: testKey, Ledger: records{gateway},
		Observe: func(l Line) { observed = append(observed, l) },
	})
	want := []short{
		{Routes, "chat at alpha", Pass, "chat N ms, stream N ms with the first token after N ms"},
		{Routes, "chat at beta", Pass, "chat N ms, stream N ms with the first token after N ms"},
		{Routes, "embed at beta", Pass, "embeddings N ms"},
		{Failover, "demo-failover, chat", Pass, "answered by beta at attempt 2 after N ms"},
		{Failover, "demo-failover, chat stream", Pass, "answered by beta at attempt 2 after N ms"},
		{Accounts, "comparison", Pass, "the same prompt over 7 requests"},
		{Accounts, "usage blocks", Pass, "whole answers and streams count the same prompt alike on 3 routes"},
		{Accounts, "usage report", Pass, "7 requests, 49 + 30 tokens for $0.000000158: answers and records agree"},
		{Cache, "", NotAvailable, "this version has no cache"},
		{Limits, "", NotAvailable, "not tried: it takes an API key with a limit of its own"},
	}
	if diff := cmp.Diff(want, shorten(got.Lines)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(got.Lines, observed); diff != "" {
		t.Errorf("what was observed is not what is reported:\n%s", diff)
	}
	if got.Passed != 8 || got.Failed != 0 || got.NotAvailable != 2 || got.Gateway != url {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff(map[string]bool{"Bearer " + testKey: true}, gateway.keys); diff != "" {
		t.Errorf("the key: %s", diff)
	}
}

func TestTheComparisonShowsEveryRoute(t *testing.T) {
	_, url := newDouble(t, "")
	report := Run(t.Context(), Options{Gateway: url, Key: testKey})
	var calls []Call
	for _, l := range report.Lines {
		calls = append(calls, l.Calls...)
	}
	chat, embed := Tokens{7, 5}, Tokens{7, 0}
	want := []Call{
		{Model: "chat", Provider: "alpha", Mode: Chat, Attempts: 1, Tokens: chat, Cost: 24},
		{Model: "chat", Provider: "alpha", Mode: ChatStream, Attempts: 1, Tokens: chat, Cost: 24},
		{Model: "chat", Provider: "beta", Mode: Chat, Attempts: 1, Tokens: chat, Cost: 24},
		{Model: "chat", Provider: "beta", Mode: ChatStream, Attempts: 1, Tokens: chat, Cost: 24},
		{Model: "embed", Provider: "beta", Mode: Embeddings, Attempts: 1, Tokens: embed, Cost: 14},
		{Model: DefaultRehearsal, Provider: "beta", Mode: Chat, Attempts: 2, Tokens: chat, Cost: 24},
		{Model: DefaultRehearsal, Provider: "beta", Mode: ChatStream, Attempts: 2, Tokens: chat, Cost: 24},
	}
	if diff := cmp.Diff(want, calls, cmpopts.IgnoreFields(Call{}, "RequestID", "Duration", "FirstToken")); diff != "" {
		t.Error(diff)
	}
	for _, c := range calls {
		if c.Duration <= 0 || c.RequestID == "" || (c.Mode == ChatStream) != (c.FirstToken > 0) || c.FirstToken > c.Duration {
			t.Errorf("%+v", c)
		}
	}
}

func TestADefectiveGatewayFails(t *testing.T) {
	for _, c := range []struct {
		defect  defect
		part    Part
		subject string
		detail  string // a part of it
	}{
		{streamCut, Routes, "chat at alpha", "stream: the stream was cut: it ended without [DONE]"},
		{streamNoDone, Routes, "chat at alpha", "stream: the stream was cut: it ended without [DONE]"},
		{streamGarbled, Routes, "chat at alpha", "stream: the stream has an event that is not JSON"},
		{streamNoFinish, Routes, "chat at alpha", "stream: the stream ended without a finish_reason"},
		{streamEmpty, Routes, "chat at alpha", "stream: the stream had no content"},
		{streamError, Routes, "chat at alpha", "stream: the stream broke with an error: The provider broke off."},
		{streamAsJSON, Routes, "chat at alpha", "stream: a stream was asked for"},
		{streamNoUsage, Routes, "chat at alpha", "stream: the answer has no complete usage block"},
		{afterDone, Routes, "chat at alpha", "stream: the stream goes on after [DONE]"},
		{trailerDiffers, Routes, "chat at alpha", "its trailer says $7"},
		{streamMiscounts, Accounts, "chat at alpha", "counts 7 tokens in a whole answer and 8 in a stream"},
		{usageSum, Routes, "chat at alpha", "does not add up: 7 + 5 is not 912"},
		{usageMissing, Routes, "chat at alpha", "no complete usage block"},
		{noCost, Routes, "chat at alpha", "does not say what it cost"},
		{noProvider, Routes, "chat", "no x-shareai-provider"},
		{noAttempts, Routes, "chat at alpha", "no x-shareai-attempts"},
		{noRequestID, Routes, "chat at alpha", "no x-request-id"},
		{emptyAnswer, Routes, "chat at alpha", "the answer is empty"},
		{noEmbedding, Routes, "embed at beta", "no embedding"},
		{betaDown, Routes, "chat at beta", "502 Every attempt failed."},
		{noFailover, Failover, "demo-failover, chat", "(broken: overloaded)"},
		{nothingFails, Failover, "demo-failover, chat", "broken answered at the first attempt"},
		{deafToWishes, Routes, "chat at alpha", "although the request left it out"},
		{html, Routes, "models", "does not answer with a list of models"},
		{keyRefused, Routes, "models", "401 This API key is not known."},
		{nobodyServes, Routes, "chat", "503 Nobody left."},
		{noModels, Routes, "models", "may use no model"},
	} {
		t.Run(string(c.defect), func(t *testing.T) {
			_, url := newDouble(t, c.defect)
			report := Run(t.Context(), Options{Gateway: url, Key: testKey})
			found := false
			for _, l := range report.Lines {
				if l.Verdict == Fail && l.Part == c.part && l.Subject == c.subject && strings.Contains(l.Detail, c.detail) {
					found = true
				}
				if strings.Contains(l.Detail, "sk-provider") {
					t.Errorf("a credential was printed: %s", l.Detail)
				}
			}
			if !found || report.Failed == 0 {
				t.Errorf("no line %d %q: %q in\n%+v", c.part, c.subject, c.detail, shorten(report.Lines))
			}
		})
	}
}

// Who knows how names are served need not find out, and leaves no refused request behind.
func TestWhatIsKnownIsNotAskedFor(t *testing.T) {
	gateway, url := newDouble(t, "")
	report := Run(t.Context(), Options{Gateway: url, Key: testKey, Known: map[string]Known{
		"chat": {Mode: Chat, Providers: []string{"alpha", "beta"}}, "embed": {Mode: Embeddings, Providers: []string{"beta"}},
	}})
	if report.Passed != 7 || report.Failed != 0 || gateway.refused != 0 {
		t.Errorf("%d refused: %+v", gateway.refused, shorten(report.Lines))
	}
}

// A provider that the key may not reach is left out; a name that it can not reach anywhere is a failure.
func TestKnownProvidersThatTheKeyMayNotReach(t *testing.T) {
	_, url := newDouble(t, "")
	report := Run(t.Context(), Options{Gateway: url, Key: testKey, Models: []string{"chat", "embed"}, Known: map[string]Known{
		"chat": {Providers: []string{"gamma", "beta"}}, "embed": {Providers: []string{"gamma"}},
	}})
	want := []short{
		{Routes, "chat at beta", Pass, "chat N ms, stream N ms with the first token after N ms"},
		{Routes, "embed", Fail, "503 Nobody left."},
	}
	if diff := cmp.Diff(want, shorten(report.Lines)[:2]); diff != "" {
		t.Error(diff)
	}
}

// One route that fails must not hide the others.
func TestAFailingRouteDoesNotEndTheTest(t *testing.T) {
	_, url := newDouble(t, betaDown)
	report := Run(t.Context(), Options{Gateway: url, Key: testKey, Models: []string{"chat", "embed"}})
	var got []string
	for _, l := range report.Lines {
		if l.Part == Routes {
			got = append(got, l.Subject+": "+string(l.Verdict))
		}
	}
	want := []string{"chat at alpha: pass", "chat at beta: fail", "embed at beta: fail"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAWrongLedgerFails(t *testing.T) {
	for name, spoil := range map[string]func(*double, string){
		"tokens":  func(g *double, id string) { e := g.records[id]; e.Tokens.Prompt++; g.records[id] = e },
		"cost":    func(g *double, id string) { e := g.records[id]; e.Cost--; g.records[id] = e },
		"missing": func(g *double, id string) { delete(g.records, id) },
	} {
		t.Run(name, func(t *testing.T) {
			gateway, url := newDouble(t, "")
			report := Run(t.Context(), Options{Gateway: url, Key: testKey, Ledger: spoiled{records{gateway}, spoil}})
			last := report.Lines[len(report.Lines)-3]
			if last.Subject != "usage report" || last.Verdict != Fail || last.RequestID == "" || report.Failed != 1 {
				t.Errorf("%+v", shorten(report.Lines))
			}
		})
	}
}

// spoiled changes a record just before it is read.
type spoiled struct {
	records
	spoil func(*double, string)
}

func (s spoiled) Entry(ctx context.Context, id string) (Entry, error) {
	s.mu.Lock()
	s.spoil(s.double, id)
	s.mu.Unlock()
	return s.records.Entry(ctx, id)
}

func TestWhatCanNotBeRehearsedIsNeitherPassNorFailure(t *testing.T) {
	_, url := newDouble(t, "")
	report := Run(t.Context(), Options{Gateway: url, Key: testKey, Models: []string{"embed"}})
	if report.Failed != 0 || report.NotAvailable != 4 {
		t.Errorf("%+v", shorten(report.Lines))
	}
}

func TestAModelThatTheKeyMayNotUse(t *testing.T) {
	_, url := newDouble(t, "")
	report := Run(t.Context(), Options{Gateway: url, Key: testKey, Models: []string{"gpt"}})
	if report.Failed != 1 || !strings.Contains(report.Lines[0].Detail, `the model "gpt"`) {
		t.Errorf("%+v", shorten(report.Lines))
	}
}

func TestNobodyListens(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	report := Run(t.Context(), Options{Gateway: server.URL, Key: testKey})
	if report.Failed != 1 || !strings.Contains(report.Lines[0].Detail, "the gateway does not answer: ") || strings.Contains(report.Lines[0].Detail, "/v1") {
		t.Errorf("%+v", shorten(report.Lines))
	}
	for _, l := range report.Lines {
		if strings.Contains(l.Detail, testKey) {
			t.Errorf("the key was printed: %s", l.Detail)
		}
	}
}

// waiting is a transport of a gateway that never answers.
type waiting struct{}

func (waiting) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestAGatewayThatHangsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		report := Run(t.Context(), Options{Gateway: "http://gateway.example", Key: testKey, Client: &http.Client{Transport: waiting{}}})
		if took := time.Since(start); took != DefaultTimeout {
			t.Errorf("took %s", took)
		}
		if want := "the gateway does not answer: no complete answer within 1m0s"; report.Lines[0].Detail != want {
			t.Errorf("%q", report.Lines[0].Detail)
		}
	})
}

func TestTheEndOfTheContextEndsTheTest(t *testing.T) {
	_, url := newDouble(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	report := Run(ctx, Options{Gateway: url, Key: testKey, Observe: func(Line) { cancel() }})
	if len(report.Lines) > 9 || report.Failed == 0 {
		t.Errorf("%+v", shorten(report.Lines))
	}
}

func TestMoney(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "0.000000001": 1, "1.5": 1_500_000_000, "12": 12_000_000_000} {
		got, err := parseUSD(text)
		if err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
		if back := formatUSD(got); back != text {
			t.Errorf("%d: %q, want %q", got, back, text)
		}
	}
	for _, bad := range []string{"", ".5", "-1", "1e3", "0.0000000001", "$1", "99999999999999999999", "+1"} {
		if n, err := parseUSD(bad); err == nil {
			t.Errorf("%q was read as %d", bad, n)
		}
	}
}
