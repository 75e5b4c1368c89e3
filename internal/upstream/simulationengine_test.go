package upstream

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"shareai/internal/catalog"
)

func TestASimulatedEngine(t *testing.T) {
	serve := func(s catalog.Simulation) *httptest.Server {
		server := httptest.NewServer(SimulatedEngine(&catalog.Provider{Simulation: s}, "demo-chat"))
		t.Cleanup(server.Close)
		return server
	}
	post := func(url, body string) (string, error) {
		resp, err := http.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(body))
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return string(text), err
	}
	const unary, stream = `{"model":"demo-chat","messages":[{"role":"user","content":"hi"}]}`, `{"model":"demo-chat","stream":true,"messages":[{"role":"user","content":"hi"}]}`

	sound := serve(catalog.Simulation{Tokens: 4})
	resp, err := http.Get(sound.URL + "/v1/models")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if list, _ := io.ReadAll(resp.Body); !strings.Contains(string(list), `"id":"demo-chat"`) {
		t.Errorf("models: %s", list)
	}
	if text, err := post(sound.URL, unary); err != nil || !strings.Contains(text, `"finish_reason":"stop"`) {
		t.Errorf("%v %s", err, text)
	}
	if text, err := post(sound.URL, stream); err != nil || !strings.HasSuffix(strings.TrimSpace(text), "[DONE]") {
		t.Errorf("%v %s", err, text)
	}
	// What breaks off breaks off here as well.
	if text, err := post(serve(catalog.Simulation{Fault: catalog.FaultCut}).URL, stream); err == nil {
		t.Errorf("a stream that was cut ended cleanly: %s", text)
	}
	if text, err := post(serve(catalog.Simulation{Fault: catalog.FaultRefused}).URL, unary); err == nil {
		t.Errorf("a refused connection answered: %s", text)
	}
}
