package cli

import (
	"runtime"
	"runtime/debug"
)

type versionCommand struct{ output }

// build is what the program was made of.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Run prints the version.
func (c *versionCommand) Run(t *terminal) error {
	b := build{Version: t.version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				b.Commit = s.Value[:min(len(s.Value), 12)]
			}
		}
	}
	if c.JSON {
		return t.json(b)
	}
	t.print("shareai %s (%s, %s)\n", b.Version, b.Go, b.Platform)
	if b.Commit != "" {
		t.print("commit %s\n", b.Commit)
	}
	return nil
}
