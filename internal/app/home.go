package app

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"net"
	"net/http"
)

//go:embed home.html
var homeText string

//go:embed home.css
var homeStyle string

var homeTemplate = template.Must(template.New("home").Parse(homeText))

var homePolicy = policyOf(homeStyle)

// policyOf lets a page have its own style and nothing else.
func policyOf(style string) string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// home is the page at /: what runs here and how to talk to it.
func (s *site) home(w http.ResponseWriter, r *http.Request) {
	var page bytes.Buffer
	err := homeTemplate.Execute(&page, struct {
		Version, API string
		Style        template.CSS
	}{s.version, s.apiURL(r), template.CSS(homeStyle)}) //nolint:gosec // the style is a file of this package
	if err != nil {
		panic(err) // the template is a constant
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", homePolicy)
	_, _ = w.Write(page.Bytes())
}

// apiURL is where the reader of a page finds the API: on the host that answered, because a listener on
// all interfaces knows no name of its own.
func (s *site) apiURL(r *http.Request) string {
	host := r.Host
	if s.addresses.Admin != "" {
		name, _, err := net.SplitHostPort(host)
		if err != nil {
			name = host
		}
		_, port, err := net.SplitHostPort(s.addresses.API)
		if err == nil {
			host = net.JoinHostPort(name, port)
		}
	}
	scheme := "http"
	if r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" {
		scheme = "https"
	}
	return scheme + "://" + host
}
