// Package internal_test holds the architecture as a test: which package may import which, and the shape that code has
// to keep. The tables of this file are the ones to change when the design changes, together with ARCHITECTURE.md. The
// rules are in layout_rules_test.go, and layout_breach_test.go breaks every one of them once.
package internal_test

import (
	"bytes"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "shareai"

// A plane is one half of the product. The two never import each other; what belongs to neither serves both.
type plane string

const (
	bothPlanes   plane = ""
	dataPlane    plane = "data"
	controlPlane plane = "control"
)

type place struct {
	floor int
	plane plane
}

// places is the floor plan: a package imports lower floors only. A package below one of these, such as store/storetest,
// shares its place.
var places = map[string]place{
	"internal/fault":     {0, bothPlanes},
	"internal/openai":    {1, bothPlanes},
	"internal/account":   {1, bothPlanes},
	"internal/audit":     {1, bothPlanes},
	"internal/cluster":   {1, bothPlanes},
	"internal/families":  {1, bothPlanes},
	"internal/tokenizer": {1, bothPlanes},
	"internal/egress":    {1, bothPlanes},
	"internal/seal":      {2, bothPlanes},
	"internal/install":   {1, bothPlanes},
	"internal/service":   {1, bothPlanes},
	"internal/catalog":   {2, bothPlanes},
	"internal/enrol":     {2, bothPlanes},
	"internal/smoke":     {2, bothPlanes},
	"internal/health":    {2, dataPlane},
	"internal/admission": {2, dataPlane},
	"internal/share":     {2, dataPlane},
	"internal/alert":     {2, bothPlanes},
	"internal/snapshot":  {3, bothPlanes},
	"internal/usage":     {3, bothPlanes},
	"internal/upstream":  {3, dataPlane},
	"internal/tunnel":    {3, dataPlane},
	"internal/config":    {4, bothPlanes},
	"internal/store":     {4, bothPlanes},
	"internal/telemetry": {4, bothPlanes},
	"internal/routing":   {4, dataPlane},
	"internal/control":   {4, controlPlane},
	"internal/jobs":      {4, controlPlane},
	"internal/notify":    {4, controlPlane},
	"internal/watch":     {4, bothPlanes},
	"internal/standby":   {4, dataPlane},
	"internal/node":      {4, dataPlane},
	"internal/attempt":   {5, dataPlane},
	"internal/probe":     {5, dataPlane},
	"internal/identity":  {5, controlPlane},
	"internal/adminapi":  {6, controlPlane},
	"internal/gateway":   {6, dataPlane},
	"internal/app":       {7, bothPlanes},
	"internal/cli":       {8, bothPlanes},
	"cmd/shareai":        {9, bothPlanes},
}

// contextFloor is the lowest floor that may begin a context of its own. Below it, a context comes from the caller.
const contextFloor = 7

// libraries says which packages may use a module from elsewhere, tests aside. A new row needs a decision in docs/adr.
var libraries = map[string][]string{
	"code.dny.dev/ssrf":                   {"internal/egress"},
	"github.com/alecthomas/kong":          {"internal/cli"},
	"github.com/cespare/xxhash/v2":        {"internal/gateway"},
	"github.com/coder/websocket":          {"internal/tunnel"},
	"github.com/coreos/go-oidc/v3":        {"internal/identity"},
	"github.com/danielgtaylor/huma/v2":    {"internal/adminapi"},
	"github.com/fsnotify/fsnotify":        {"internal/config"},
	"github.com/goccy/go-yaml":            {"internal/config", "internal/cli", "internal/node"},
	"github.com/jackc/pgx/v5":             {"internal/store"},
	"github.com/kardianos/service":        {"internal/service"},
	"github.com/mattn/go-isatty":          {"internal/cli"},
	"github.com/pressly/goose/v3":         {"internal/store"},
	"github.com/prometheus/client_golang": {"internal/telemetry"},
	"github.com/redis/go-redis/v9":        {"internal/cluster"},
	"github.com/shirou/gopsutil/v4":       {"internal/node"},
	"github.com/tiktoken-go/tokenizer":    {"internal/tokenizer"},
	"github.com/uptrace/bun":              {"internal/store"},
	"github.com/wneessen/go-mail":         {"internal/notify"},
	"go.opentelemetry.io/otel":            {"internal/telemetry"},
	"golang.org/x/crypto":                 {"internal/identity"},
	"golang.org/x/oauth2":                 {"internal/identity"},
	"golang.org/x/sys":                    {"internal/usage", "internal/node", "internal/service"},
	"modernc.org/sqlite":                  {"internal/store"},
}

// Sizes, in lines.
const (
	maxFunction   = 100
	p95Function   = 60
	maxFile       = 600
	maxPackage    = 5_000
	maxParameters = 5
)

// bannedNames say nothing about what is inside. They are forbidden for packages and for files.
var bannedNames = []string{
	"base", "common", "core", "helper", "helpers", "lib", "manager", "misc", "models", "types", "util", "utils",
}

func TestLayout(t *testing.T) {
	sources := readTree(t, "..")
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			for _, breach := range r.check(sources) {
				t.Error(breach)
			}
		})
	}
}

// A row that nothing stands on any more would let something in unseen.
func TestTablesHaveNoStaleRows(t *testing.T) {
	sources := readTree(t, "..")
	inhabited, used := map[string]bool{}, map[string]bool{}
	for _, s := range sources.sources {
		at, _ := home(s.dir)
		inhabited[at] = true
		sources.imports(s, func(_, importPath string) {
			library, _ := libraryOf(importPath)
			used[library] = used[library] || s.isProduct()
		})
	}
	for at := range places {
		if !inhabited[at] {
			t.Errorf("%s is on the floor plan and does not exist", at)
		}
	}
	for library := range libraries {
		if !used[library] {
			t.Errorf("nobody uses %s", library)
		}
	}
}

// ARCHITECTURE.md shows the same floors.
func TestFloorsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]int{}
	for _, row := range regexp.MustCompile("(?m)^\\| (\\d+) \\| `(\\w+)` \\|").FindAllSubmatch(text, -1) {
		floor, err := strconv.Atoi(string(row[1]))
		if err != nil {
			t.Fatal(err)
		}
		documented["internal/"+string(row[2])] = floor
	}
	for at, p := range places {
		if floor, ok := documented[at]; strings.HasPrefix(at, "internal/") && (!ok || floor != p.floor) {
			t.Errorf("%s is on floor %d; ARCHITECTURE.md says %d (found: %t)", at, p.floor, floor, ok)
		}
	}
	for at := range documented {
		if _, ok := places[at]; !ok {
			t.Errorf("ARCHITECTURE.md has %s, the floor plan has not", at)
		}
	}
}

// readTree parses the Go files of this module, those of nested modules aside.
func readTree(t *testing.T, root string) tree {
	t.Helper()
	sources := tree{files: token.NewFileSet()}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && isForeign(path):
			return fs.SkipDir
		case entry.IsDir() || !strings.HasSuffix(path, ".go"):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		return sources.add(filepath.ToSlash(relative), text)
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(sources.sources, func(s source) bool { return s.dir == "internal/fault" }) {
		t.Fatal("internal/fault is not among the files that were read")
	}
	return sources
}

// isForeign tells the folders whose Go files are not of this module.
func isForeign(dir string) bool {
	name := filepath.Base(dir)
	if strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules" {
		return true
	}
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

// add parses one file; path is relative to the root of the module, with slashes.
func (t *tree) add(path string, text []byte) error {
	file, err := parser.ParseFile(t.files, path, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	t.sources = append(t.sources, source{
		path: path, dir: path[:strings.LastIndex(path, "/")], lines: bytes.Count(text, []byte("\n")), file: file,
	})
	return nil
}

// A lockfile pins a package by its hash. Where it was fetched from is nobody's business and changes from place to place.
func TestLockfilesNameNoHost(t *testing.T) {
	found := 0
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == ".git") {
			return fs.SkipDir
		}
		if entry.Name() != "package-lock.json" {
			return nil
		}
		found++
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte(`"resolved": "http`)) {
			t.Errorf("%s names hosts: keep omit-lockfile-registry-resolved=true in the .npmrc beside it", path)
		}
		return err
	})
	if err != nil || found == 0 {
		t.Errorf("%d lockfiles found, error %v", found, err)
	}
}
