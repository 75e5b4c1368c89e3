package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestProxiesAreKeptForTheService(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, environmentFile)
	env := func(values map[string]string) func(string) (string, bool) {
		return func(name string) (string, bool) { v, ok := values[name]; return v, ok }
	}
	if err := KeepProxies(dir, env(nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a file for nothing")
	}
	if err := KeepProxies(dir, env(map[string]string{"https_proxy": "http://me:pw@proxy:3128", "NO_PROXY": "a,b", "PATH": "/bin"})); err != nil {
		t.Fatal(err)
	}
	if err := KeepProxies(dir, env(map[string]string{"HTTPS_PROXY": "another"})); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if want := "HTTPS_PROXY=http://me:pw@proxy:3128\nNO_PROXY=a,b\n"; err != nil || string(text) != want {
		t.Errorf("%v: %q, want %q", err, text, want)
	}
	if about, err := os.Stat(file); err != nil || about.Mode().Perm() != 0o600 {
		t.Errorf("others can read it: %v %v", about.Mode(), err)
	}
}

func TestTheEnvironmentOfAnAgent(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(dir, environmentFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("SHAREAI_TEST_GIVEN", "given")
	t.Setenv("SHAREAI_TEST_OTHER", "")
	write("# a comment\n\nSHAREAI_TEST_GIVEN=file\r\nSHAREAI_TEST_OTHER=a=b c\n")
	if err := AdoptEnvironment(dir); err != nil {
		t.Fatal(err)
	}
	if given, other := os.Getenv("SHAREAI_TEST_GIVEN"), os.Getenv("SHAREAI_TEST_OTHER"); given != "given" || other != "a=b c" {
		t.Errorf("%q, %q", given, other)
	}
	write("HTTPS_PROXY=x\nsecret word\n")
	if err := AdoptEnvironment(dir); err == nil || !strings.Contains(err.Error(), "line 2") || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
	if err := AdoptEnvironment(t.TempDir()); err != nil {
		t.Error(err)
	}
}

// Whoever mistypes --data-dir does not lose a folder.
func TestPurgeTakesNodesOnly(t *testing.T) {
	dir := t.TempDir()
	if err := Purge(dir); err == nil {
		t.Error("a folder that is no node's was removed")
	}
	if err := Purge(filepath.Join(dir, "missing")); err != nil {
		t.Error(err)
	}
	place := filepath.Join(dir, "private")
	if err := os.Mkdir(place, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(place, "identity.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link") // as systemd makes it
	if err := os.Symlink(place, link); err != nil {
		t.Fatal(err)
	}
	if err := Purge(link); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}
