package usage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"shareai/internal/catalog"
)

// sample is a record as a busy gateway writes it.
func sample() *Record {
	tokens := catalog.Tokens{Prompt: 1200, Cached: 800, Completion: 340, Reasoning: 120}
	return &Record{
		ID: NewID(), Start: 1_795_000_000_000_000, Duration: 1_834_221, FirstToken: 312_004,
		Organization: "acme", Project: "app", KeyID: "key_file_0123456789", Endpoint: catalog.Chat,
		Requested: "chat", Route: "chat", Policy: "careful", Model: "llama-3.3-70b",
		Provider: "alpha", Deployment: "alpha/llama-3.3-70b-versatile", Stream: true, Status: 200,
		Tokens: tokens, PriceVersion: "0123456789ab", Cost: 804_600, BytesIn: 5120, BytesOut: 48_000,
		TraceID: "0af7651916cd43dd8448eb211c80319c", SpanID: "b7ad6b7169203331",
		Attempts: []Attempt{
			{
				Provider: "beta", Deployment: "beta/meta/llama-3.3-70b", Model: "llama-3.3-70b", ProviderKey: "main",
				Outcome: "server_error", Status: 503, Message: "overloaded", Offset: 90, Headers: 20_000, Duration: 20_100,
			},
			{
				Provider: "alpha", Deployment: "alpha/llama-3.3-70b-versatile", Model: "llama-3.3-70b", ProviderKey: "main",
				Outcome: "ok", Status: 200, Offset: 20_300, Headers: 250_000, FirstToken: 291_704, Duration: 1_813_000,
				Tokens: tokens, PriceVersion: "0123456789ab", Cost: 804_600, SpanID: "b7ad6b7169203332",
			},
		},
		Labels: map[string]string{"team": "search"}, Prompt: 0x9e3779b97f4a7c15,
		Reason: "server_error at beta/meta/llama-3.3-70b", Primary: "beta/meta/llama-3.3-70b", PrimaryCost: 790_000,
		Candidates: []Candidate{
			{Deployment: "beta/meta/llama-3.3-70b", Model: "llama-3.3-70b"},
			{Deployment: "alpha/llama-3.3-70b-versatile", Model: "llama-3.3-70b"},
		},
	}
}

func tokensOf() *rapid.Generator[catalog.Tokens] {
	return rapid.Custom(func(t *rapid.T) catalog.Tokens {
		return catalog.Tokens{
			Prompt: rapid.Int64().Draw(t, "prompt"), Cached: rapid.Int64().Draw(t, "cached"),
			CacheWrite: rapid.Int64().Draw(t, "cache write"), CacheWrite1h: rapid.Int64().Draw(t, "for an hour"),
			AudioInput: rapid.Int64().Draw(t, "audio in"), AudioOutput: rapid.Int64().Draw(t, "audio out"),
			Completion: rapid.Int64().Draw(t, "completion"), Reasoning: rapid.Int64().Draw(t, "reasoning"),
			Estimated: rapid.Bool().Draw(t, "estimated"),
		}
	})
}

func attempts() *rapid.Generator[Attempt] {
	return rapid.Custom(func(t *rapid.T) Attempt {
		text, number := rapid.String(), rapid.Int64()
		return Attempt{
			Provider: text.Draw(t, "provider"), Deployment: text.Draw(t, "deployment"), Model: text.Draw(t, "model"),
			ProviderKey: text.Draw(t, "key"), Outcome: text.Draw(t, "outcome"), Status: rapid.IntRange(0, 999).Draw(t, "status"),
			Message: text.Draw(t, "message"), Offset: number.Draw(t, "offset"), Headers: number.Draw(t, "headers"),
			FirstToken: number.Draw(t, "first"), Duration: number.Draw(t, "duration"), Tokens: tokensOf().Draw(t, "tokens"),
			PriceVersion: text.Draw(t, "price"), Cost: number.Draw(t, "cost"), SpanID: text.Draw(t, "span"),
			Retry: rapid.Bool().Draw(t, "retry"), Hedge: rapid.Bool().Draw(t, "hedge"), Wait: number.Draw(t, "wait"),
			Resumes: text.Draw(t, "resumes"), Drill: text.Draw(t, "drill"), Circuit: text.Draw(t, "circuit"),
		}
	})
}

func candidates() *rapid.Generator[Candidate] {
	return rapid.Custom(func(t *rapid.T) Candidate {
		text := rapid.String()
		return Candidate{
			Deployment: text.Draw(t, "deployment"), Model: text.Draw(t, "model"), Reason: text.Draw(t, "reason"),
			Origin: text.Draw(t, "origin"), Grade: rapid.Float64Range(0, 1).Draw(t, "grade"),
		}
	})
}

func records() *rapid.Generator[*Record] {
	return rapid.Custom(func(t *rapid.T) *Record {
		text, number := rapid.String(), rapid.Int64()
		r := &Record{
			ID: text.Draw(t, "id"), Start: number.Draw(t, "start"), Duration: number.Draw(t, "duration"),
			FirstToken: number.Draw(t, "first"), Organization: text.Draw(t, "organization"), Project: text.Draw(t, "project"),
			KeyID: text.Draw(t, "key"), Endpoint: catalog.Endpoint(text.Draw(t, "endpoint")),
			Requested: text.Draw(t, "requested"), Route: text.Draw(t, "route"), Policy: text.Draw(t, "policy"),
			Model: text.Draw(t, "model"), Provider: text.Draw(t, "provider"), Deployment: text.Draw(t, "deployment"),
			Stream: rapid.Bool().Draw(t, "stream"), Status: rapid.IntRange(-1, 999).Draw(t, "status"),
			Code: text.Draw(t, "code"), Tokens: tokensOf().Draw(t, "tokens"), PriceVersion: text.Draw(t, "price"),
			Cost: number.Draw(t, "cost"), BytesIn: number.Draw(t, "in"), BytesOut: number.Draw(t, "out"),
			TraceID: text.Draw(t, "trace"), SpanID: text.Draw(t, "span"),
			Reason: text.Draw(t, "reason"), Resumed: rapid.Bool().Draw(t, "resumed"), Drill: text.Draw(t, "drill"),
			Primary: text.Draw(t, "primary"), PrimaryCost: number.Draw(t, "primary cost"), PrimaryLatency: number.Draw(t, "primary latency"),
			Prompt: rapid.Uint64().Draw(t, "prompt"),
		}
		if all := rapid.MapOfN(text, text, 0, 3).Draw(t, "labels"); len(all) > 0 {
			r.Labels = all
		}
		if all := rapid.SliceOfN(candidates(), 0, 4).Draw(t, "candidates"); len(all) > 0 {
			r.Candidates = all
		}
		if all := rapid.SliceOfN(attempts(), 0, 4).Draw(t, "attempts"); len(all) > 0 {
			r.Attempts = all
		}
		if rapid.Bool().Draw(t, "logged") {
			r.Content = &Content{
				Request: atLeastNil(rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "request")),
				Answer:  atLeastNil(rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "answer")), Truncated: rapid.Bool().Draw(t, "cut"),
			}
		}
		return r
	})
}

func atLeastNil(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

func TestARecordSurvivesTheCodec(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := records().Draw(t, "record")
		payload := appendRecord(nil, want)
		var got Record
		if err := decodeRecord(payload, &got); err != nil {
			t.Fatal(err)
		}
		clear(payload) // the record must not refer to it
		if diff := cmp.Diff(want, &got); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestEveryFieldIsJournalled fills every field there is: one that is added to a record and forgotten in
// the codec fails here.
func TestEveryFieldIsJournalled(t *testing.T) {
	var want, got Record
	fill(reflect.ValueOf(&want).Elem())
	want.ParentID = "" // of no use to anybody later
	if err := decodeRecord(appendRecord(nil, &want), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// fill sets everything in a value to something else than zero.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key)
		fill(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64:
		v.SetFloat(0.92)
	case reflect.Uint8:
		v.SetUint('y')
	case reflect.Uint64:
		v.SetUint(7)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	default:
		panic("fill " + v.Kind().String())
	}
}

func TestACutPayloadIsAnErrorAndNeverAPanic(t *testing.T) {
	whole := sample()
	payload := appendRecord(nil, whole)
	kinds := len(payload) - len(appendTokenKinds(nil, &whole.Tokens))
	labels := kinds - len(appendLabels(nil, whole.Labels)) - binary.MaxVarintLen64
	trace := labels - len(appendTrace(nil, whole)) // here records of older releases end
	for n := range payload {
		if err := decodeRecord(payload[:n], new(Record)); !errors.Is(err, errShort) && n != trace && n != labels && n != kinds {
			t.Fatalf("cut at %d of %d: %v", n, len(payload), err)
		}
	}
}

// A journal that the release before left behind, written by that release, is shipped.
func TestAJournalOfTheReleaseBeforeIsRead(t *testing.T) {
	old, err := os.ReadFile(filepath.Join("testdata", "before-traces.segment"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, segmentName(1)), old, 0o600); err != nil {
		t.Fatal(err)
	}
	first := *sample()
	first.ID, first.Reason, first.Primary, first.PrimaryCost, first.Candidates, first.Labels, first.Prompt = "req_old_1", "", "", 0, nil, nil, 0
	want := map[string]Record{
		"req_old_1": first,
		"req_old_2": {ID: "req_old_2", Start: 1, Status: 404, Code: "model_not_found", Organization: "acme"},
		"req_old_3": {
			ID: "req_old_3", Start: 2, Status: 200, Attempts: first.Attempts[1:],
			Content: &Content{Request: []byte("question"), Answer: []byte("answer"), Truncated: true},
		},
	}
	sink, stats := collect(t, dir)
	if diff := cmp.Diff(want, sink.records); diff != "" || stats.Lost != 0 {
		t.Errorf("%+v\n%s", stats, diff)
	}
}

func TestCandidatesBeyondReasonAreCut(t *testing.T) {
	var got Record
	if err := decodeRecord(appendRecord(nil, &Record{Candidates: make([]Candidate, maxCandidates+1)}), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Candidates) != maxCandidates {
		t.Errorf("%d candidates", len(got.Candidates))
	}
	for last, count := range []uint64{maxLabels + 1, maxCandidates + 1} { // the counts that a bare record ends with, before the prompt and four kinds of tokens
		payload := appendRecord(nil, &Record{})
		payload = binary.AppendUvarint(payload[:len(payload)-6-last], count)
		if err := decodeRecord(payload, &got); !errors.Is(err, errShort) {
			t.Errorf("a damaged count: %v", err)
		}
	}
}

// What a later release adds at the end of a record, an attempt or a content is skipped.
func TestFieldsOfALaterReleaseAreSkipped(t *testing.T) {
	want := sample()
	want.Content = &Content{Request: []byte("q"), Answer: []byte("a")}
	bare := &Record{}
	payload := appendRecord(nil, bare)
	payload = payload[:len(payload)-len(appendTrace(nil, bare))-7] // without the count of attempts, the labels, the prompt and the kinds of tokens
	payload[1] |= flagContent
	payload = append(payload, 1)
	payload = appendBlock(payload, &want.Attempts[1], func(b []byte, a *Attempt) []byte { return append(appendAttempt(b, a), "more"...) })
	payload = appendBlock(payload, want.Content, func(b []byte, c *Content) []byte { return append(appendContent(b, c), "more"...) })
	payload = appendTrace(payload, bare)
	payload = append(payload[:len(payload)-1], 1) // one candidate
	payload = appendBlock(payload, &want.Candidates[0], func(b []byte, c *Candidate) []byte { return append(appendCandidate(b, c), "more"...) })
	payload = binary.AppendUvarint(appendLabels(payload, want.Labels), want.Prompt)
	payload = append(appendTokenKinds(payload, &catalog.Tokens{CacheWrite: 5}), "and more"...)
	var got Record
	if err := decodeRecord(payload, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Record{Attempts: want.Attempts[1:], Content: want.Content, Candidates: want.Candidates[:1], Labels: want.Labels, Prompt: want.Prompt, Tokens: catalog.Tokens{CacheWrite: 5}}, got); diff != "" {
		t.Error(diff)
	}
	payload[0]++
	if err := decodeRecord(payload, &got); !errors.Is(err, errVersion) {
		t.Errorf("another version: %v", err)
	}
}

func TestContentIsBounded(t *testing.T) {
	long := bytes.Repeat([]byte("x"), MaxContent+1)
	for _, c := range []Content{{Request: long}, {Answer: long}} {
		var got Record
		if err := decodeRecord(appendRecord(nil, &Record{Content: &c}), &got); err != nil {
			t.Fatal(err)
		}
		if !got.Content.Truncated || len(got.Content.Request)+len(got.Content.Answer) != MaxContent {
			t.Errorf("%d+%d bytes kept, truncated %v", len(got.Content.Request), len(got.Content.Answer), got.Content.Truncated)
		}
	}
}

func TestARecordThatIsTooLargeLosesItsContentFirst(t *testing.T) {
	r := &Record{ID: "a", Code: strings.Repeat("x", maxPayload-1000), Content: &Content{Request: bytes.Repeat([]byte("x"), 2000)}}
	frame, err := encodeFrame(nil, r)
	if err != nil {
		t.Fatal(err)
	}
	var got Record
	if err := decodeRecord(frame[headerSize:], &got); err != nil {
		t.Fatal(err)
	}
	if !got.Content.Truncated || got.Content.Request != nil || got.ID != "a" {
		t.Errorf("got %+v", got.Content)
	}
	if r.Content.Request == nil {
		t.Error("the caller's record was changed")
	}
	r.Code += strings.Repeat("x", 2000)
	if _, err := encodeFrame(nil, r); !errors.Is(err, ErrRecordTooLarge) {
		t.Errorf("error: %v", err)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add(appendRecord(nil, sample()))
	f.Add(appendRecord(nil, &Record{Content: &Content{Request: []byte("q")}}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, payload []byte) {
		var r, again Record
		if decodeRecord(payload, &r) != nil {
			return
		}
		if err := decodeRecord(appendRecord(nil, &r), &again); err != nil {
			t.Fatal(err)
		}
		r.Content, again.Content = nil, nil // may have been cut
		if diff := cmp.Diff(r, again); diff != "" {
			t.Fatal(diff)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	r := sample()
	buffer := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		frame, err := encodeFrame(buffer, r)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(frame)))
	}
}

func BenchmarkDecode(b *testing.B) {
	payload := appendRecord(nil, sample())
	var r Record
	b.ReportAllocs()
	for b.Loop() {
		if err := decodeRecord(payload, &r); err != nil {
			b.Fatal(err)
		}
	}
}
