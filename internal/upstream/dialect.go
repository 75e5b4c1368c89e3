package upstream

import (
	"errors"
	"net/url"
	"strings"
	"sync"

	"shareai/internal/catalog"
)

// dialect is where a provider's requests go and how they authenticate.
type dialect interface {
	// address is the URL of an endpoint of a deployment.
	address(call *Call) (*url.URL, error)
	// credential is the header that carries a key; the name is in canonical form.
	credential(secret string) (name, value string)
}

var dialects = map[catalog.Dialect]dialect{
	catalog.OpenAI:    openAI{},
	catalog.Azure:     azure{},
	catalog.Simulated: simulated{},
}

// paths are the endpoints that every dialect of this version has, below the base URL.
var paths = map[catalog.Endpoint]string{
	catalog.Chat:        "/chat/completions",
	catalog.Completions: "/completions",
	catalog.Embeddings:  "/embeddings",
}

var (
	errNoEndpoint = errors.New("the provider does not serve this endpoint")
	errBaseURL    = errors.New("the provider's base_url must be an http or https URL with a host")
)

// openAI is any OpenAI-compatible API.
type openAI struct{}

func (openAI) address(call *Call) (*url.URL, error) {
	base, err := baseURL(call.Provider.BaseURL)
	if err != nil {
		return nil, err
	}
	return below(base, paths[call.Endpoint])
}

func (openAI) credential(secret string) (name, value string) {
	return "Authorization", "Bearer " + secret
}

// azure is Azure OpenAI, in both its forms: with /v1 at the end of the base URL it is OpenAI's API under
// another header; without, the deployment stands in the path and the API has a dated version.
type azure struct{}

// azureVersion is the stable version of Azure's dated API that is used when a provider names none.
const azureVersion = "2024-10-21"

func (a azure) address(call *Call) (*url.URL, error) {
	base, err := a.base(call.Provider, "deployments", url.PathEscape(call.Deployment.Model))
	if err != nil {
		return nil, err
	}
	return below(base, paths[call.Endpoint])
}

// base is what addresses begin with; dated is what stands before the endpoint in the API with a version.
func (azure) base(p *catalog.Provider, dated ...string) (*url.URL, error) {
	base, err := baseURL(p.BaseURL)
	if err != nil {
		return nil, err
	}
	version := p.APIVersion
	if path := strings.TrimRight(base.Path, "/"); !strings.HasSuffix(path, "/v1") {
		if !strings.HasSuffix(path, "/openai") {
			base = base.JoinPath("openai")
		}
		base = base.JoinPath(dated...)
		if version == "" {
			version = azureVersion
		}
	}
	if version != "" {
		query := base.Query()
		query.Set("api-version", version)
		base.RawQuery = query.Encode()
	}
	return base, nil
}

func (azure) credential(secret string) (name, value string) { return "Api-Key", secret }

// simulated lives in the process: its address is only a name.
type simulated struct{}

func (simulated) address(call *Call) (*url.URL, error) {
	return below(&url.URL{Scheme: "simulated", Host: call.Provider.Name, Path: "/"}, paths[call.Endpoint])
}

func (simulated) credential(secret string) (name, value string) {
	return "Authorization", "Bearer " + secret
}

// baseURL parses a provider's base URL. A user and password in it are dropped: credentials are
// configured as keys, where they are kept secret.
func baseURL(text string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, errBaseURL
	}
	u.User, u.Fragment, u.RawFragment = nil, "", ""
	if u.Path == "" {
		u.Path = "/" // JoinPath would make a relative path of an empty one
	}
	return u, nil
}

func below(base *url.URL, path string) (*url.URL, error) {
	if path == "" {
		return nil, errNoEndpoint
	}
	return base.JoinPath(path), nil
}

// addressBook keeps the addresses that were made, because making one costs more than sending a small
// request's headers. The zero value is ready.
type addressBook struct {
	mu    sync.RWMutex
	known map[addressKey]*url.URL
}

// addressKey is everything that an address depends on.
type addressKey struct {
	dialect                        catalog.Dialect
	base, version, provider, model string
	endpoint                       catalog.Endpoint
}

// maxAddresses bounds the book; a full one is thrown away, since configurations change.
const maxAddresses = 4096

// find returns the address of a call, which must not be changed.
func (b *addressBook) find(d dialect, call *Call) (*url.URL, error) {
	p := call.Provider
	key := addressKey{p.Dialect, p.BaseURL, p.APIVersion, p.Name, call.Deployment.Model, call.Endpoint}
	b.mu.RLock()
	address := b.known[key]
	b.mu.RUnlock()
	if address != nil {
		return address, nil
	}
	address, err := d.address(call)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.known == nil || len(b.known) >= maxAddresses {
		b.known = make(map[addressKey]*url.URL)
	}
	b.known[key] = address
	return address, nil
}
