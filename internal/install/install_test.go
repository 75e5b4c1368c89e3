package install

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// pretend is a program that says what it was asked for.
const pretend = "#!/bin/sh\necho \"pretend $*\"\n"

var here = runtime.GOOS + "_" + runtime.GOARCH

// site serves options over HTTP.
func site(t *testing.T, o Options) *httptest.Server {
	o.Log = slog.New(slog.DiscardHandler)
	server := httptest.NewServer(New(o).Handler())
	t.Cleanup(server.Close)
	return server
}

// program writes a program and returns its path.
func program(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "shareai")
	if err := os.WriteFile(path, []byte(pretend), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// user is somebody who runs the script: root, or not. Nothing else than `id` tells the script so.
type user string

const (
	root     user = "0"
	ordinary user = "1000"
)

// run runs the script as root would, and returns what it said and where it installs.
func run(t *testing.T, script string, args ...string) (said, folder string, err error) {
	t.Helper()
	return runAs(t, root, script, args...)
}

func runAs(t *testing.T, who user, script string, args ...string) (said, folder string, err error) {
	t.Helper()
	folder = filepath.Join(t.TempDir(), "bin")
	tools := t.TempDir()
	if err := os.WriteFile(filepath.Join(tools, "id"), []byte("#!/bin/sh\necho "+string(who)+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", append([]string{"-s", "--"}, args...)...)
	cmd.Env = append(os.Environ(), "SHAREAI_INSTALL_DIR="+folder, "PATH="+tools+":"+os.Getenv("PATH"), "TMPDIR="+tools, "SHAREAI_TOKEN=")
	cmd.Stdin = strings.NewReader(script)
	out, err := cmd.CombinedOutput()
	if left, _ := filepath.Glob(filepath.Join(tools, "tmp.*")); len(left) > 0 {
		t.Errorf("it leaves %q behind", left)
	}
	return string(out), folder, err
}

// R20: one command installs the agent that the gateway itself carries, and has it enrol.
func TestTheScriptInstallsAndEnrols(t *testing.T) {
	server := site(t, Options{Program: program(t), Platform: here})
	_, script := get(t, server.URL+"/install.sh")
	said, folder, err := run(t, script, "--token", "ntok_example", "--name", "my laptop")
	if err != nil || !strings.Contains(said, "pretend node install --gateway "+server.URL+" --token ntok_example --name my laptop") {
		t.Fatalf("%v: %s", err, said)
	}
	// A second time replaces it.
	if said, _, err = run(t, script); err != nil || !strings.Contains(said, "to make this machine a node") {
		t.Fatalf("%v: %s", err, said)
	}
	if about, err := os.Stat(filepath.Join(folder, "shareai")); err != nil || about.Mode()&0o111 == 0 {
		t.Errorf("the program is not there to be run: %v", err)
	}
}

// archive writes a release with one archive for this machine.
func archive(t *testing.T) (dir, name string) {
	dir, name = t.TempDir(), "shareai_1.2.3_"+here+".tar.gz"
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	files := tar.NewWriter(zip)
	_ = files.WriteHeader(&tar.Header{Name: "shareai", Mode: 0o755, Size: int64(len(pretend))})
	_, _ = files.Write([]byte(pretend))
	_, _ = files.Close(), zip.Close()
	sum := sha256.Sum256(b.Bytes())
	list := hex.EncodeToString(sum[:]) + "  " + name + "\n" + strings.Repeat("0", 64) + "  ../../etc/passwd\nnonsense\n"
	for file, text := range map[string][]byte{name: b.Bytes(), sums: []byte(list), "secret.txt": []byte("x")} {
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, name
}

func TestAReleaseComesFirst(t *testing.T) {
	dir, name := archive(t)
	server := site(t, Options{Dir: dir, Program: program(t), Platform: here})
	_, script := get(t, server.URL+"/install.sh")
	said, _, err := run(t, script, "--token", "ntok_example")
	if err != nil || !strings.Contains(said, name) || !strings.Contains(said, "pretend node install") {
		t.Fatalf("%v: %s", err, said)
	}
	for _, other := range []string{"secret.txt", sums, "..%2f..%2fetc%2fpasswd", "nonsense"} {
		if status, _ := get(t, server.URL+"/download/"+other); status != http.StatusNotFound {
			t.Errorf("%s: status %d", other, status)
		}
	}
}

// What is not what the script announced is not installed.
func TestAWrongChecksumInstallsNothing(t *testing.T) {
	dir, name := archive(t)
	server := site(t, Options{Dir: dir})
	_, script := get(t, server.URL+"/install.sh")
	if err := os.WriteFile(filepath.Join(dir, name), []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	said, folder, err := run(t, script, "--token", "ntok_example")
	if err == nil || !strings.Contains(said, "nothing was installed") {
		t.Errorf("%v: %s", err, said)
	}
	if _, err := os.Stat(folder); err == nil {
		t.Error("the folder was made all the same")
	}
}

// A download that breaks off is no program.
func TestAnInterruptedDownloadInstallsNothing(t *testing.T) {
	inner := New(Options{Program: program(t), Platform: here, Log: slog.New(slog.DiscardHandler)}).Handler()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/download/") {
			inner.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, pretend) // and the connection ends
	}))
	t.Cleanup(server.Close)
	_, script := get(t, server.URL+"/install.sh")
	said, folder, err := run(t, script, "--token", "ntok_example")
	if err == nil || !strings.Contains(said, "nothing was installed") {
		t.Errorf("%v: %s", err, said)
	}
	if _, err := os.Stat(folder); err == nil {
		t.Error("the folder was made all the same")
	}
}

// A script that breaks off on its way to the shell does nothing at all.
func TestAnInterruptedScriptDoesNothing(t *testing.T) {
	server := site(t, Options{Program: program(t), Platform: here})
	_, script := get(t, server.URL+"/install.sh")
	lines := strings.SplitAfter(strings.TrimSuffix(script, "main \"$@\"\n"), "\n")
	if len(lines) < 50 {
		t.Fatalf("the last line of the script is another one:\n%s", script)
	}
	for n := 0; n < len(lines); n += 5 {
		said, folder, _ := run(t, strings.Join(lines[:n], ""), "--token", "ntok_example")
		if strings.Contains(said, "install:") || strings.Contains(said, "pretend") {
			t.Errorf("after %d lines it said: %s", n, said)
		}
		if _, err := os.Stat(folder); err == nil {
			t.Errorf("after %d lines it installed something", n)
		}
	}
}

// Whoever is not root installs for himself.
func TestAnOrdinaryUser(t *testing.T) {
	server := site(t, Options{Program: program(t), Platform: here})
	_, script := get(t, server.URL+"/install.sh")
	for who, want := range map[user]string{
		ordinary: "pretend node install --user --gateway " + server.URL + " --token x",
		root:     "pretend node install --gateway " + server.URL + " --token x",
	} {
		if said, _, err := runAs(t, who, script, "--token", "x"); err != nil || !strings.Contains(said, want) {
			t.Errorf("user %s: %v: %s", who, err, said)
		}
	}
	if said, _, err := runAs(t, ordinary, script); err != nil || !strings.Contains(said, "shareai node install --user --gateway") {
		t.Errorf("%v: %s", err, said)
	}
}

func TestAPlatformThatIsMissing(t *testing.T) {
	server := site(t, Options{})
	_, script := get(t, server.URL+"/install.sh")
	if said, _, err := run(t, script, "--token", "x"); err == nil || !strings.Contains(said, "make dist") {
		t.Errorf("%v: %s", err, said)
	}
}

// The host of a request stands in a program that somebody runs.
func TestAHostileHost(t *testing.T) {
	handler := New(Options{Program: program(t), Platform: here, Log: slog.New(slog.DiscardHandler)}).Handler()
	for host, want := range map[string]int{
		"gw.example":            http.StatusOK,
		"[::1]:8080":            http.StatusOK,
		"x';touch /tmp/owned;'": http.StatusBadRequest,
		"a b":                   http.StatusBadRequest,
		"$(id)":                 http.StatusBadRequest,
		"":                      http.StatusBadRequest,
	} {
		for _, path := range []string{"/install.sh", "/install.ps1"} {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Host = host
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code != want {
				t.Errorf("%s at %q: status %d, want %d", path, host, w.Code, want)
			}
		}
	}
}

func TestTheAddressInTheScript(t *testing.T) {
	ask := func(o Options, proto string) string {
		r := httptest.NewRequest(http.MethodGet, "/install.ps1", nil)
		r.Host = "gw.example"
		r.Header.Set("X-Forwarded-Proto", proto)
		w := httptest.NewRecorder()
		o.Log = slog.New(slog.DiscardHandler)
		New(o).Handler().ServeHTTP(w, r)
		return w.Body.String()
	}
	for _, c := range []struct {
		o           Options
		proto, want string
	}{
		{Options{}, "", "$gateway = 'http://gw.example'"},
		{Options{}, "https", "$gateway = 'https://gw.example'"},
		{Options{URL: "https://ai.example/"}, "", "$gateway = 'https://ai.example'"},
	} {
		if script := ask(c.o, c.proto); !strings.Contains(script, c.want) {
			t.Errorf("%q is missing from\n%s", c.want, script)
		}
	}
}
