package install

import (
	_ "embed"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"text/template"
)

// Options are what a Site serves.
type Options struct {
	// Dir is the folder with a release; empty or without one: the own program alone.
	Dir string
	// Program is the path of the running program, Platform what it runs on ("linux_amd64"). Empty: it is not served.
	Program, Platform string
	// URL is the address under which machines reach the gateway; empty: the one that they asked at.
	URL string
	Log *slog.Logger
}

// Site serves the scripts and the downloads.
type Site struct {
	options Options
	own     *own
}

// New makes a site.
func New(o Options) *Site {
	return &Site{options: o, own: &own{program: o.Program, platform: o.Platform}}
}

//go:embed install.sh.tmpl
var shell string

//go:embed install.ps1.tmpl
var powershell string

var (
	shellScript      = template.Must(template.New("install.sh").Parse(shell))
	powershellScript = template.Must(template.New("install.ps1").Parse(powershell))
)

// Handler answers GET /install.sh, /install.ps1 and /download/{name}.
func (s *Site) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /install.sh", func(w http.ResponseWriter, r *http.Request) { s.script(w, r, shellScript) })
	mux.HandleFunc("GET /install.ps1", func(w http.ResponseWriter, r *http.Request) { s.script(w, r, powershellScript) })
	mux.HandleFunc("GET /download/{name}", s.download)
	return mux
}

// script writes a script for the address at which it was asked for.
func (s *Site) script(w http.ResponseWriter, r *http.Request, text *template.Template) {
	url, err := s.address(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	downloads, err := s.downloads()
	if err != nil {
		s.options.Log.ErrorContext(r.Context(), "the folder of downloads can not be read", "error", err)
		http.Error(w, "The programs to install can not be read at the moment.", http.StatusInternalServerError)
		return
	}
	head := w.Header()
	head.Set("Content-Type", "text/plain; charset=utf-8")
	head.Set("Cache-Control", "no-store") // it depends on the address that was asked
	head.Set("X-Content-Type-Options", "nosniff")
	if err := text.Execute(w, struct {
		URL       string
		Downloads []Download
	}{url, downloads}); err != nil {
		s.options.Log.WarnContext(r.Context(), "a script could not be sent", "error", err)
	}
}

// plainHost is a host that can stand in a script as it is.
var plainHost = regexp.MustCompile(`^[A-Za-z0-9.-]+(:[0-9]{1,5})?$|^\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?$`)

// address is where the machine asked.
func (s *Site) address(r *http.Request) (string, error) {
	if s.options.URL != "" {
		return strings.TrimSuffix(s.options.URL, "/"), nil
	}
	// Whoever sends the request chooses its host, and the script is going to be run.
	if !plainHost.MatchString(r.Host) {
		return "", fmt.Errorf("the address of the gateway is not one that a script can use; set public_url in its configuration")
	}
	scheme := "http"
	if r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" {
		scheme = "https"
	}
	return scheme + "://" + r.Host, nil
}

// downloads are those of the release and, for a platform that it lacks, the own program.
func (s *Site) downloads() ([]Download, error) {
	list, err := release(s.options.Dir)
	if err != nil {
		return nil, err
	}
	if s.options.Program == "" || slices.ContainsFunc(list, func(d Download) bool { return d.Platform == s.options.Platform }) {
		return list, nil
	}
	own, err := s.own.get()
	if err != nil {
		return nil, err
	}
	return append(list, own), nil
}

// download sends a file that a script names.
func (s *Site) download(w http.ResponseWriter, r *http.Request) {
	list, err := s.downloads()
	at := slices.IndexFunc(list, func(d Download) bool { return d.Name == r.PathValue("name") })
	if err != nil || at < 0 {
		http.NotFound(w, r)
		return
	}
	f, err := os.Open(list[at].path)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer func() { _ = f.Close() }()
	about, err := f.Stat()
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", about.ModTime(), f)
}
