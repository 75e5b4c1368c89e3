package app

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"shareai/internal/catalog"
)

//go:embed contributors.html
var contributorsText string

//go:embed contributors.css
var contributorsStyle string

var contributorsTemplate = template.Must(template.New("contributors").Funcs(template.FuncMap{
	"grouped": grouped, "percent": percent,
}).Parse(contributorsText))

// Of the page of contributors.
const (
	contributorsFor   = time.Minute // it is served again
	contributorModels = 20          // named for each
	enoughRequests    = 20          // to tell how reliable somebody is
)

// contributor is somebody who shares a node and wants it to be known.
type contributor struct {
	Name        string   `json:"name"`
	Handle      string   `json:"handle"`
	Models      []string `json:"models"`
	MoreModels  int      `json:"more_models,omitempty"` // that are not named
	Tokens      int64    `json:"tokens_served"`         // of prompts and answers, since the beginning
	Reliability *float64 `json:"reliability"`           // of the last days, 0 to 1; null: too few requests to tell
	Since       string   `json:"since"`                 // a day
}

// contributors is the page as it was made last.
type contributors struct {
	mu   sync.Mutex // held while it is made: others wait for that, and the database is asked once
	made time.Time
	of   int64 // revision: who takes back his consent is not shown any longer
	html []byte
	json []byte
}

// listed are the contributors, those who served most first. Whoever did not consent, or shares nothing at present, is none.
func (c *community) listed(ctx context.Context) ([]contributor, error) {
	standing, err := c.standing(ctx)
	if err != nil {
		return nil, err
	}
	list := []contributor{}
	terms := c.keeper.Current().Spec().Community
	for n := range c.keeper.Current().Nodes() {
		share := n.Shared
		if !share.Active() || !share.Listed {
			continue
		}
		r := standing[share.Handle]
		entry := contributor{
			Name: cmp.Or(share.DisplayName, share.Handle), Handle: share.Handle, Models: []string{}, Tokens: r.PromptTokens + r.CompletionTokens,
			Since: share.Since.Format(time.DateOnly),
		}
		for _, m := range n.Advertised.Models {
			price := catalog.PriceOf(m.Name, share.Prices)
			switch {
			case !share.Offers(m.Name) || !terms.Allows(&price) || slices.Contains(entry.Models, m.Name):
			case len(entry.Models) < contributorModels:
				entry.Models = append(entry.Models, m.Name)
			default:
				entry.MoreModels++
			}
		}
		if r.Served+r.Failed >= enoughRequests {
			share := float64(r.Served) / float64(r.Served+r.Failed)
			entry.Reliability = &share
		}
		list = append(list, entry)
	}
	slices.SortFunc(list, func(a, b contributor) int {
		return cmp.Or(cmp.Compare(b.Tokens, a.Tokens), strings.Compare(a.Handle, b.Handle))
	})
	return list, nil
}

// fresh returns the page, made again when it is old. While the database is away the old one stands.
func (c *community) fresh(ctx context.Context) (html, text []byte, err error) {
	p := &c.page
	p.mu.Lock()
	defer p.mu.Unlock()
	now, revision := time.Now(), c.keeper.Current().Revision
	if p.html != nil && p.of == revision && now.Sub(p.made) < contributorsFor {
		return p.html, p.json, nil
	}
	list, err := c.listed(ctx)
	if err != nil && p.html != nil && p.of == revision {
		p.made = now
		return p.html, p.json, nil
	}
	if err != nil {
		return nil, nil, err
	}
	var page bytes.Buffer
	err = contributorsTemplate.Execute(&page, struct {
		Style template.CSS
		List  []contributor
		At    string
		Days  int
	}{template.CSS(contributorsStyle), list, now.UTC().Format("2006-01-02 15:04"), standingDays}) //nolint:gosec // the style is a file of this package
	if err != nil {
		return nil, nil, err
	}
	if text, err = json.Marshal(map[string][]contributor{"contributors": list}); err != nil {
		return nil, nil, err
	}
	text = append(text, '\n')
	p.made, p.of, p.html, p.json = now, revision, page.Bytes(), text
	return p.html, p.json, nil
}

// serve answers both forms of the page. Where there is no community there is none.
func (c *community) serve(w http.ResponseWriter, r *http.Request) {
	if !c.keeper.Current().Spec().Community.Enabled {
		notFound(w, r)
		return
	}
	page, text, err := c.fresh(r.Context())
	if err != nil {
		c.log.WarnContext(r.Context(), "the contributors could not be looked up", "error", err)
		http.Error(w, "The contributors can not be looked up at the moment. Try again later.", http.StatusServiceUnavailable)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "public, max-age=60")
	if strings.HasSuffix(r.URL.Path, ".json") {
		h.Set("Content-Type", "application/json")
		_, _ = w.Write(text)
		return
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policyOf(contributorsStyle))
	_, _ = w.Write(page)
}

// grouped writes a number with its thousands apart.
func grouped(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "\u202f" + digits[at:] // a space that does not break
	}
	return digits
}

func percent(share *float64) string {
	if share == nil {
		return "–"
	}
	return strconv.FormatFloat(100**share, 'f', 1, 64) + " %"
}
