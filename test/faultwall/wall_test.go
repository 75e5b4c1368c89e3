package faultwall

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

const (
	question = `{"model":"m","messages":[{"role":"user","content":"How are you?"}]%s}`
	prompt   = `{"model":"m","prompt":"How are you?%s"}`
)

func listen(t *testing.T) *Server {
	t.Helper()
	s, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// post sends a request over a connection of its own, and reads what comes until it ends.
func post(t *testing.T, s *Server, path, body string) (*http.Response, string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	return response, string(text), err
}

// told puts the text of the first choice of a stream together.
func told(t *testing.T, stream string) (text string, done bool) {
	t.Helper()
	lines := bufio.NewScanner(strings.NewReader(stream))
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok || data == "[DONE]" {
			done = done || ok
			continue
		}
		var chunk struct {
			Choices []struct {
				Text  string
				Delta struct{ Content string }
			}
		}
		if err := json.Unmarshal([]byte(data), &chunk); err != nil {
			t.Fatalf("%v: %s", err, data)
		}
		for _, c := range chunk.Choices {
			text += c.Text + c.Delta.Content
		}
	}
	return text, done
}

func TestEveryServerSaysTheSameInEveryMode(t *testing.T) {
	one, two := listen(t), listen(t)
	for _, c := range []struct{ path, body, streamed string }{
		{"/chat/completions", fmt.Sprintf(question, ""), fmt.Sprintf(question, `,"stream":true`)},
		{"/completions", fmt.Sprintf(prompt, ""), `{"stream":true,` + fmt.Sprintf(prompt, "")[1:]},
	} {
		r, err := Read(c.path, []byte(c.body))
		if err != nil {
			t.Fatal(err)
		}
		answer := r.Answer()
		want := answer.Choices[0].Text()
		if !utf8.ValidString(want) || strings.Contains(want, "?") || len(answer.Choices[0].Pieces) != defaultPieces {
			t.Errorf("%q", want)
		}
		encoded, _ := json.Marshal(want)
		for _, s := range []*Server{one, two} {
			if _, body, err := post(t, s, c.path, c.body); err != nil || !strings.Contains(body, string(encoded)) {
				t.Errorf("%s: %v, %s", c.path, err, body)
			}
			_, stream, err := post(t, s, c.path, c.streamed)
			if got, done := told(t, stream); err != nil || got != want || !done {
				t.Errorf("%s as a stream: %v, %q, want %q", c.path, err, got, want)
			}
		}
	}
	two.Speak("other")
	if _, body, _ := post(t, two, "/chat/completions", fmt.Sprintf(question, `,"stream":true`)); body == "" {
		t.Error("no answer")
	} else if _, first, _ := post(t, one, "/chat/completions", fmt.Sprintf(question, `,"stream":true`)); first == body {
		t.Error("two voices say the same")
	}
}

func TestABeginningIsContinued(t *testing.T) {
	s := listen(t)
	r, err := Read("/v1/chat/completions", fmt.Appendf(nil, question, ""))
	if err != nil {
		t.Fatal(err)
	}
	answer := r.Answer()
	want := answer.Choices[0].Text()
	for at := range want {
		begun, _ := json.Marshal(want[:at])
		chat := fmt.Sprintf(`{"model":"other","stream":true,"messages":[{"role":"user","content":"How are you?"},{"role":"assistant","content":%s}]}`, begun)
		_, stream, _ := post(t, s, "/chat/completions", chat)
		if got, done := told(t, stream); got != want[at:] || !done {
			t.Fatalf("behind %q: %q", want[:at], got)
		}
	}
	begun := `{"model":"m","messages":[{"role":"user","content":"How are you?"},{"role":"assistant","content":"What"}]}`
	s.Prefills(Refuse)
	if response, _, _ := post(t, s, "/chat/completions", begun); response.StatusCode != http.StatusBadRequest {
		t.Errorf("a refused beginning: %d", response.StatusCode)
	}
	s.Prefills(Ignore)
	encoded, _ := json.Marshal(want)
	if _, body, _ := post(t, s, "/chat/completions", begun); !strings.Contains(body, string(encoded)) {
		t.Errorf("an ignored beginning: %s", body)
	}
}

// Every fault makes a difference to somebody who reads bytes, and none keeps a goroutine.
func TestFaultsStrikeAndEnd(t *testing.T) {
	for _, f := range Catalogue() {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			s, good := listen(t), listen(t)
			s.Fail(f)
			extra := ""
			if !f.Strikes(false) {
				extra = `,"stream":true`
			}
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			if broken, well := raw(ctx, s, extra), raw(t.Context(), good, extra); broken == well && !onlySlow[f.Name] {
				t.Errorf("as if nothing were: %.200q", broken)
			}
			if f.Modes&Both == Unary {
				if _, body, err := post(t, s, "/chat/completions", fmt.Sprintf(question, `,"stream":true`)); err != nil || !strings.HasSuffix(body, "data: [DONE]\n\n") {
					t.Errorf("it strikes streams too: %v, %s", err, body)
				}
			}
		})
	}
}

// onlySlow are the faults whose bytes are those of a good answer.
var onlySlow = map[string]bool{"trickle": true, "stream-slow": true}

// raw is everything that comes over a connection, with what ended it.
func raw(ctx context.Context, s *Server, extra string) string {
	body := fmt.Sprintf(question, extra)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL()+"/chat/completions", strings.NewReader(body))
	if err != nil {
		return err.Error()
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.address)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	request.Close = true
	_ = request.Write(conn)
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	text, err := io.ReadAll(conn)
	ended := " and the end"
	if err != nil {
		ended = " and no end"
	}
	return regexp.MustCompile("Date: .*").ReplaceAllString(string(text), "") + ended
}

func TestNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range Catalogue() {
		if seen[f.Name] || f.Does == "" || f.Modes == 0 {
			t.Errorf("%+v", f)
		}
		seen[f.Name] = true
	}
}

// README.md shows the catalogue. WRITE=1 brings it up to date.
func TestReadmeListsEveryFault(t *testing.T) {
	const begin = "<!-- faults -->\n"
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	before, _, ok := strings.Cut(string(text), begin)
	var rows strings.Builder
	rows.WriteString("| fault | strikes | the client of the wall sees that it |\n|---|---|---|\n")
	for _, f := range Catalogue() {
		strikes := map[Modes]string{Unary: "unary", Stream: "streams", Both: "both"}[f.Modes]
		fmt.Fprintf(&rows, "| `%s` | %s | %s |\n", f.Name, strikes, strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;").Replace(f.Does))
	}
	want := before + begin + rows.String()
	if os.Getenv("WRITE") != "" {
		if err := os.WriteFile("README.md", []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !ok || string(text) != want {
		t.Error("the table of README.md is not the catalogue: WRITE=1 go test ./test/faultwall -run Readme")
	}
}

func TestAServerComesBackAtItsAddress(t *testing.T) {
	s := listen(t)
	s.Fail(Named("refused"))
	if _, _, err := post(t, s, "/chat/completions", fmt.Sprintf(question, "")); err == nil {
		t.Error("it listens")
	}
	s.Heal()
	if err := s.Revive(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := post(t, s, "/chat/completions", fmt.Sprintf(question, "")); err != nil || s.Calls() != 1 {
		t.Errorf("%v, %d calls", err, s.Calls())
	}
}
