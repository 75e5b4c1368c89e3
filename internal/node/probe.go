package node

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"shareai/internal/catalog"
)

const (
	probeTime    = 3 * time.Second // for everything that one engine is asked
	maxProbe     = 16 << 20        // bytes of an answer: Ollama lists every tensor of a model
	maxListed    = 1000            // models of one engine
	maxModelName = 200             // bytes
	// usualContext is what Ollama and LM Studio load a model with when nobody says how much, in tokens. What a model was
	// trained for is often far more, and they cut a longer prompt without a word.
	usualContext = 4096
)

var (
	errNoEngine = errors.New("no engine")            // somebody answers, and it is none
	errLoading  = errors.New("the model is loading") // an engine that can not serve yet
	errNeedsKey = errors.New("the engine wants a key")
)

// prober asks servers what they are. What Ollama says of a model is kept: it changes with the model's digest only.
type prober struct {
	client *http.Client

	mu     sync.Mutex
	shown  map[string]model // by digest
	loaded map[string]int64 // context that a model was loaded with, by digest
}

func newProber() *prober {
	return &prober{
		client: &http.Client{
			Transport:     engineTransport(),
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		shown: map[string]model{}, loaded: map[string]int64{},
	}
}

// engineTransport speaks to engines: directly, whatever proxy the environment names, and byte for byte.
func engineTransport() *http.Transport {
	return &http.Transport{
		DialContext:        (&net.Dialer{Timeout: 2 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		DisableCompression: true, MaxIdleConnsPerHost: 64, IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 5 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// listing is GET /v1/models, as the several engines answer it.
type listing struct {
	Data []struct {
		ID            string `json:"id"`
		OwnedBy       string `json:"owned_by"`
		MaxModelLen   int64  `json:"max_model_len"`
		ContextLength int64  `json:"context_length"`
		ContextWindow int64  `json:"context_window"`
		Meta          struct {
			Context int64 `json:"n_ctx"`
			Trained int64 `json:"n_ctx_train"`
		} `json:"meta"`
	} `json:"data"`
}

// look finds out what answers at an address. kind is what it was the last time, empty when it is new.
func (p *prober) look(ctx context.Context, a address, kind Kind) (*engine, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	var list listing
	if err := p.get(ctx, &a, "/v1/models", &list); err != nil {
		return nil, err
	}
	if list.Data == nil {
		return nil, errNoEngine
	}
	e := &engine{address: a, kind: kind}
	if e.kind == "" {
		e.kind = p.kindOf(ctx, &a, &list)
	}
	e.slots = slots[e.kind]
	var err error
	switch e.kind {
	case Ollama:
		err = p.askOllama(ctx, e)
	case LlamaCPP:
		err = p.askLlamaCPP(ctx, e, &list)
	case LMStudio:
		err = p.askLMStudio(ctx, e)
	case VLLM:
		var v struct{ Version string }
		_ = p.get(ctx, &a, "/version", &v) // nobody needs it
		e.version = v.Version
		e.models = list.plain()
	default:
		e.models = list.plain()
	}
	if err != nil {
		return nil, err
	}
	e.models = tidy(e.models)
	return e, nil
}

// kindOf tells engines apart. The order matters: llama.cpp answers some of Ollama's paths, and LM Studio answers
// everything with 200.
func (p *prober) kindOf(ctx context.Context, a *address, list *listing) Kind {
	if len(list.Data) > 0 {
		switch list.Data[0].OwnedBy {
		case "vllm":
			return VLLM
		case "llamacpp":
			return LlamaCPP
		}
	}
	if root, err := p.fetch(ctx, a, http.MethodGet, "/", nil); err == nil && string(bytes.TrimSpace(root)) == "Ollama is running" {
		return Ollama
	}
	var studio struct{ Data []struct{ Type string } }
	if p.get(ctx, a, "/api/v0/models", &studio) == nil && len(studio.Data) > 0 && studio.Data[0].Type != "" {
		return LMStudio
	}
	var props llamaProps
	if p.get(ctx, a, "/props", &props) == nil && props.Slots > 0 {
		return LlamaCPP
	}
	return OpenAI
}

func (l *listing) plain() []model {
	var models []model
	for i := range l.Data {
		d := &l.Data[i]
		models = append(models, model{
			id: d.ID, context: cmp.Or(d.MaxModelLen, d.ContextLength, d.ContextWindow, d.Meta.Context), embeds: true, chats: true,
		})
	}
	return models
}

// askOllama lists the models that run here. Those of its cloud are left out: what they are asked leaves the machine.
func (p *prober) askOllama(ctx context.Context, e *engine) error {
	var version struct{ Version string }
	_ = p.get(ctx, &e.address, "/api/version", &version)
	e.version = version.Version
	var tags struct {
		Models []struct {
			Name, Digest string
			RemoteHost   string `json:"remote_host"`
			RemoteModel  string `json:"remote_model"`
		}
	}
	if err := p.get(ctx, &e.address, "/api/tags", &tags); err != nil {
		return err
	}
	var running struct {
		Models []struct {
			Digest  string
			Context int64 `json:"context_length"`
		}
	}
	if p.get(ctx, &e.address, "/api/ps", &running) == nil {
		p.mu.Lock()
		for _, r := range running.Models {
			p.loaded[r.Digest] = r.Context
		}
		p.mu.Unlock()
	}
	for _, t := range tags.Models {
		if t.RemoteHost != "" || t.RemoteModel != "" {
			continue
		}
		m, err := p.rememberOllama(ctx, &e.address, t.Name, t.Digest)
		if err != nil {
			return err
		}
		m.id = t.Name
		e.models = append(e.models, m)
	}
	return nil
}

// rememberOllama is what Ollama says of a model, and the context that it was last loaded with.
func (p *prober) rememberOllama(ctx context.Context, a *address, name, digest string) (model, error) {
	p.mu.Lock()
	m, ok := p.shown[digest]
	loaded := p.loaded[digest]
	p.mu.Unlock()
	if !ok {
		var err error
		if m, err = p.showOllama(ctx, a, name); err != nil {
			return model{}, err
		}
		p.mu.Lock()
		p.shown[digest] = m
		p.mu.Unlock()
	}
	m.context = cmp.Or(loaded, m.context)
	m.capabilities = slices.Clone(m.capabilities)
	return m, nil
}

// ollamaCapabilities maps Ollama's words to ours.
var ollamaCapabilities = map[string]catalog.Capability{
	"tools": catalog.Tools, "vision": catalog.Vision, "thinking": catalog.Reasoning, "audio": catalog.Audio, "embedding": catalog.Embedding,
}

func (p *prober) showOllama(ctx context.Context, a *address, name string) (model, error) {
	body, err := json.Marshal(map[string]string{"model": name})
	if err != nil {
		return model{}, err
	}
	text, err := p.fetch(ctx, a, http.MethodPost, "/api/show", body)
	if err != nil {
		return model{}, err
	}
	var shown struct {
		Capabilities []string
		Parameters   string
		Info         map[string]any `json:"model_info"`
	}
	if err := json.Unmarshal(text, &shown); err != nil {
		return model{}, fmt.Errorf("read what Ollama says of a model: %w", err)
	}
	m := model{chats: slices.Contains(shown.Capabilities, "completion"), embeds: slices.Contains(shown.Capabilities, "embedding")}
	architecture, _ := shown.Info["general.architecture"].(string)
	if trained, ok := shown.Info[architecture+".context_length"].(float64); ok {
		m.context = min(int64(trained), usualContext)
	}
	for line := range strings.Lines(shown.Parameters) {
		var tokens int64
		if n, _ := fmt.Sscanf(line, "num_ctx %d", &tokens); n == 1 && tokens > 0 {
			m.context = tokens
		}
	}
	if len(shown.Capabilities) == 0 { // before it told
		m.chats, m.embeds = true, true
		return m, nil
	}
	m.capabilities = []catalog.Capability{}
	for _, c := range shown.Capabilities {
		if known := ollamaCapabilities[c]; known != "" {
			m.capabilities = append(m.capabilities, known)
		}
	}
	if m.chats {
		m.capabilities = append(m.capabilities, catalog.JSONSchema, catalog.Logprobs)
	}
	return m, nil
}

// llamaProps is GET /props of llama.cpp.
type llamaProps struct {
	Slots    int `json:"total_slots"`
	Defaults struct {
		Context int64 `json:"n_ctx"` // of one slot
	} `json:"default_generation_settings"`
	Modalities struct{ Vision, Audio bool }
	Template   string `json:"chat_template"`
	Build      string `json:"build_info"`
}

func (p *prober) askLlamaCPP(ctx context.Context, e *engine, list *listing) error {
	var props llamaProps
	if err := p.get(ctx, &e.address, "/props", &props); errors.Is(err, errLoading) {
		return err
	}
	e.models = list.plain()
	if props.Slots == 0 { // they can be switched off
		return nil
	}
	e.slots, e.version = props.Slots, props.Build
	able := []catalog.Capability{catalog.JSONSchema, catalog.Logprobs}
	for _, c := range []struct {
		is   bool
		what catalog.Capability
	}{
		{strings.Contains(props.Template, "tools"), catalog.Tools},
		{props.Modalities.Vision, catalog.Vision},
		{props.Modalities.Audio, catalog.Audio},
	} {
		if c.is {
			able = append(able, c.what)
		}
	}
	for i := range e.models {
		e.models[i].context = cmp.Or(props.Defaults.Context, e.models[i].context)
		e.models[i].capabilities = able
	}
	return nil
}

func (p *prober) askLMStudio(ctx context.Context, e *engine) error {
	var list struct {
		Data []struct {
			ID, Type     string
			Max          int64 `json:"max_context_length"`
			Loaded       int64 `json:"loaded_context_length"`
			Capabilities []string
		}
	}
	if err := p.get(ctx, &e.address, "/api/v0/models", &list); err != nil {
		return err
	}
	for _, d := range list.Data {
		m := model{id: d.ID, context: cmp.Or(d.Loaded, min(d.Max, usualContext)), embeds: d.Type == "embeddings", chats: d.Type != "embeddings"}
		switch {
		case m.embeds:
			m.capabilities = []catalog.Capability{catalog.Embedding}
		default:
			m.capabilities = []catalog.Capability{catalog.JSONSchema}
			if slices.Contains(d.Capabilities, "tool_use") {
				m.capabilities = append(m.capabilities, catalog.Tools)
			}
			if d.Type == "vlm" {
				m.capabilities = append(m.capabilities, catalog.Vision)
			}
		}
		e.models = append(e.models, m)
	}
	return nil
}

// tidy leaves out names that nobody could ask for, and puts the rest in order: an engine that lists the same models in
// another order has not changed.
func tidy(models []model) []model {
	models = slices.DeleteFunc(models, func(m model) bool {
		return m.id == "" || len(m.id) > maxModelName || strings.ContainsFunc(m.id, func(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar })
	})
	for i := range models {
		slices.Sort(models[i].capabilities)
	}
	slices.SortStableFunc(models, func(a, b model) int { return cmp.Compare(a.id, b.id) })
	models = slices.CompactFunc(models, func(a, b model) bool { return a.id == b.id })
	return models[:min(len(models), maxListed)]
}

// get reads a JSON answer.
func (p *prober) get(ctx context.Context, a *address, path string, into any) error {
	text, err := p.fetch(ctx, a, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	if json.Unmarshal(text, into) != nil {
		return errNoEngine
	}
	return nil
}

// fetch returns the body of an answer with status 200. errNoEngine stands for every other answer but those that an
// engine gives that is loading, or that wants a key.
func (p *prober) fetch(ctx context.Context, a *address, method, path string, body []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, a.url(path), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if !a.key.Empty() {
		r.Header.Set("Authorization", "Bearer "+a.key.Reveal())
	}
	answer, err := p.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	switch {
	case isGateway(answer.Header):
		return nil, errNoEngine
	case answer.StatusCode == http.StatusServiceUnavailable:
		return nil, errLoading
	case answer.StatusCode == http.StatusUnauthorized:
		return nil, errNeedsKey
	case answer.StatusCode != http.StatusOK:
		return nil, errNoEngine
	}
	return io.ReadAll(io.LimitReader(answer.Body, maxProbe))
}

// isGateway recognises a gateway of ours, so that a node never serves what comes from itself.
func isGateway(h http.Header) bool {
	for name := range h {
		if strings.HasPrefix(textproto.CanonicalMIMEHeaderKey(name), "X-Shareai-") {
			return true
		}
	}
	return false
}

// nobodyThere says whether a probe failed because nothing listens any more, rather than because it is slow.
func nobodyThere(err error) bool { return errors.Is(err, connectionRefused) }
