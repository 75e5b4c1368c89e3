package node

import (
	"cmp"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"shareai/internal/account"
	"shareai/internal/catalog"
)

// Kind is the software of an engine, as in catalog.NodeEngine.
type Kind string

// The kinds.
const (
	Ollama   Kind = "ollama"
	LlamaCPP Kind = "llama.cpp"
	VLLM     Kind = "vllm"
	LMStudio Kind = "lmstudio"
	OpenAI   Kind = "openai" // any other server that speaks the protocol
)

// slots is how many requests an engine is given at once when it does not say how many it works on.
var slots = map[Kind]int{Ollama: 4, LlamaCPP: 1, VLLM: 32, LMStudio: 4, OpenAI: 4}

// EngineAddress is an engine that the owner has named.
type EngineAddress struct {
	URL  string         `yaml:"url"`  // such as http://127.0.0.1:11434, with or without /v1
	Name string         `yaml:"name"` // empty: the kind
	Key  account.Secret `yaml:"key"`  // sent as Authorization: Bearer; empty: none
}

// engine is an engine as it was last seen.
type engine struct {
	address  address
	kind     Kind
	name     string // unique on the node
	version  string
	slots    int // how many requests it works on at once
	models   []model
	failures int // probes in a row that it did not answer
}

// address is where an engine is. It comes from the owner's settings or from looking at loopback, never from the gateway.
type address struct {
	origin string // http://127.0.0.1:11434
	prefix string // path in front of /v1, usually empty
	key    account.Secret
	name   string // that the owner gave
	given  bool   // by the owner
}

func (a *address) url(path string) string { return a.origin + a.prefix + path }

// model is a model of an engine.
type model struct {
	id           string // the engine's own
	context      int64  // tokens; 0: unknown
	capabilities []catalog.Capability
	// embeds and chats say which paths the model answers. Both: the engine does not tell.
	embeds, chats bool
}

// parseAddress reads an address that the owner has given.
func parseAddress(e EngineAddress) (address, error) {
	u, err := url.Parse(e.URL)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return address{}, &Problem{Message: "--engine " + shortly(e.URL) + " is no address of a server", Hint: "give a URL such as http://127.0.0.1:11434"}
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return address{}, &Problem{
			Message: "--engine has more than a host and a path",
			Hint:    "leave out user, password, ? and #; a key of the engine belongs into node.yaml",
		}
	}
	prefix := strings.TrimSuffix(strings.TrimSuffix(u.EscapedPath(), "/"), "/v1")
	return address{origin: u.Scheme + "://" + u.Host, prefix: prefix, key: e.Key, name: e.Name, given: true}, nil
}

// shortly is a text of the owner's as a message may repeat it: what stands in front of an @ may be a password.
func shortly(text string) string {
	if _, after, found := strings.Cut(text, "@"); found {
		return "…@" + after
	}
	return text
}

// shard is what the files of a model that has several end with.
var shard = regexp.MustCompile(`-00001-of-\d{5}$`)

// plainName is the name of a model without what only its engine needs: the tag that stands for "whichever is the latest",
// the folder and the ending of a file.
func plainName(id string) string {
	name := strings.TrimSuffix(id, ":latest")
	if stem, isFile := strings.CutSuffix(name, ".gguf"); isFile {
		name = shard.ReplaceAllString(path.Base(strings.ReplaceAll(stem, `\`, "/")), "")
	}
	return cmp.Or(name, id)
}

// advertised is what the engines serve, in the gateway's terms. A model that two engines have under one id gets the
// engine's name in front of it in the second.
func advertised(version string, engines []*engine) catalog.Advertised {
	a := catalog.Advertised{AgentVersion: version}
	taken := map[string]bool{}
	for _, e := range engines {
		if len(e.models) == 0 {
			continue
		}
		a.Engines = append(a.Engines, catalog.NodeEngine{Name: e.name, Kind: string(e.kind), Version: e.version})
		for _, m := range e.models {
			id := m.id
			if taken[id] {
				id = e.name + "/" + m.id
			}
			taken[id] = true
			a.Models = append(a.Models, catalog.NodeModel{
				ID: id, Name: plainName(m.id), Engine: e.name, Context: m.context, Capabilities: m.capabilities,
			})
		}
	}
	return a
}

// found is a model together with its engine.
type found struct {
	engine *engine
	model  *model
}

// find finds a model by the id under which it is advertised, by the engine's name and id, or by its plain name.
func find(engines []*engine, name string) (found, bool) {
	for _, match := range []func(e *engine, m *model) bool{
		func(_ *engine, m *model) bool { return m.id == name },
		func(e *engine, m *model) bool { return e.name+"/"+m.id == name },
		func(_ *engine, m *model) bool { return plainName(m.id) == name },
	} {
		for _, e := range engines {
			if at := slices.IndexFunc(e.models, func(m model) bool { return match(e, &m) }); at >= 0 {
				return found{e, &e.models[at]}, true
			}
		}
	}
	return found{}, false
}
