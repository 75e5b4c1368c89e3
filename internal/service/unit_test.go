package service

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func unit(scope Scope) *Unit {
	return &Unit{
		Name: "shareai-node", Title: "ShareAI node", Description: "Serves local models to a ShareAI gateway",
		Program: "/usr/bin/shareai", Arguments: []string{"node", "run", "--data-dir", "/var/lib/shareai-node"},
		Scope: scope, Folder: "/var/lib/shareai-node",
	}
}

func TestUnits(t *testing.T) {
	for name, text := range map[string]string{
		"machine.service": unit(OfMachine).systemd(),
		"user.service":    unit(OfUser).systemd(),
		"agent.plist":     unit(OfUser).launchd(),
	} {
		path := filepath.Join("testdata", name)
		if os.Getenv("SHAREAI_UPDATE_GOLDEN") != "" {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), text); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// systemd itself reads the unit. It says what it does not know on its output, and exits with 0 all the same.
func TestSystemdUnderstandsTheUnits(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		if testing.Short() {
			t.Skip("systemd-analyze is not installed")
		}
		t.Fatal("systemd-analyze is not installed: scripts/install-test-deps.sh")
	}
	for _, scope := range []Scope{OfMachine, OfUser} {
		u := unit(scope)
		u.Program, u.Arguments = "/bin/true", []string{"with space", `quo"te`, "50%", "$HOME"}
		path := filepath.Join(t.TempDir(), "shareai-node.service")
		if err := os.WriteFile(path, []byte(u.systemd()), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", path).CombinedOutput()
		if err != nil || strings.Contains(string(out), "shareai-node.service") {
			t.Errorf("%s: %v\n%s", scope, err, out)
		}
	}
}

func TestWordsOfACommandLine(t *testing.T) {
	for word, want := range map[string]string{
		"plain": "plain", "": `""`, "two words": `"two words"`, `a"b`: `"a\"b"`, "50%": "50%%", "$HOME": "$$HOME", `c:\x`: `c:\\x`,
	} {
		if got := systemdQuote(word); got != want {
			t.Errorf("%q became %s, want %s", word, got, want)
		}
	}
}

func TestThePropertyListIsXML(t *testing.T) {
	u := unit(OfUser)
	u.Arguments = append(u.Arguments, "<a> & b")
	d := xml.NewDecoder(strings.NewReader(u.launchd()))
	var words []string
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := token.(xml.CharData); ok && strings.TrimSpace(string(text)) != "" {
			words = append(words, string(text))
		}
	}
	if !strings.Contains(strings.Join(words, "|"), "<a> & b") {
		t.Errorf("the argument is missing from %q", words)
	}
}
