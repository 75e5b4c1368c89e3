package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// The variables of a service's agent stand in a file beside its data, which only the agent can read: a password of a
// proxy is nothing for a unit that every user sees.
const environmentFile = "environment"

// KeepProxies writes the proxies of an environment into a data directory, if there are any and none were kept before.
func KeepProxies(dir string, getenv func(string) (string, bool)) error {
	var b strings.Builder
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"} {
		for _, spelling := range []string{name, strings.ToLower(name)} {
			if value, _ := getenv(spelling); value != "" && !strings.ContainsAny(value, "\r\n") {
				b.WriteString(name + "=" + value + "\n")
				break
			}
		}
	}
	path := filepath.Join(dir, environmentFile)
	if _, err := os.Stat(path); err == nil || b.Len() == 0 {
		return nil
	}
	return os.WriteFile(path, []byte(b.String()), 0o600)
}

// AdoptEnvironment sets the variables of the file "environment" in a data directory that the environment of this process
// does not have.
func AdoptEnvironment(dir string) error {
	path := filepath.Join(dir, environmentFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	line := 0
	for l := range strings.Lines(string(text)) {
		line++
		l = strings.TrimSpace(l)
		if l == "" || strings.HasPrefix(l, "#") {
			continue
		}
		name, value, ok := strings.Cut(l, "=")
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			return &Problem{Message: fmt.Sprintf("%s, line %d: this is no variable", path, line), Hint: "write NAME=VALUE, for example HTTPS_PROXY=http://proxy.example:3128"}
		}
		if before, _ := os.LookupEnv(name); before == "" {
			if err := os.Setenv(name, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// keptCAFile is the copy of --ca-file beside the service's data: it may not see homes, and the file may go.
const keptCAFile = "ca.pem"

// KeptCA is where KeepCA puts its copy.
func KeptCA(dir string) string { return filepath.Join(dir, keptCAFile) }

// KeepCA copies certificates into a data directory.
func KeepCA(dir, from string) error {
	text, err := os.ReadFile(from)
	if err != nil || from == KeptCA(dir) {
		return err
	}
	return os.WriteFile(KeptCA(dir), text, 0o600)
}

// Purge removes the data of an agent. With systemd the folder of a service of the machine is a link into a private one.
func Purge(dir string) error {
	behind, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if f := folder(behind); !f.has(identityFile) && !f.has(enrolFile) {
		return &Problem{Message: dir + " is not the data directory of a node: nothing was removed", Hint: "give the right one with --data-dir"}
	}
	return errors.Join(os.RemoveAll(behind), os.RemoveAll(dir))
}
