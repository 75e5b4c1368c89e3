package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"

	"shareai/internal/node"
)

// The service runs exactly what the foreground would: every flag that decides how the agent runs is on its command line.
func TestTheServiceRunsWithTheSameFlags(t *testing.T) {
	parse := func(args ...string) nodeRunCommand {
		t.Helper()
		var c nodeRunCommand
		parser, err := kong.New(&c, kong.Exit(func(int) {}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.Parse(args); err != nil {
			t.Fatal(err)
		}
		return c
	}
	given := []string{
		"--gateway=https://ai.example", "--token=nt-shareai-x", "--name=desk", "--engine=http://127.0.0.1:1", "--engine=http://127.0.0.1:2/v1",
		"--ca-file=/home/me/ca.pem", "--data-dir=/var/lib/shareai-node", "--discover=off", "--concurrency=3", "--tokens-per-day=2000000",
		"--serve=idle", "--hours=mon-fri 20:00-08:00", "--hours=sat,sun", "--grace=0s", "--stop-grace=1m30s", "--idle-after=7m", "--idle-cpu=0.125",
		"--idle-gpu=0.3", "--on-battery", "--log-format=json", "--log-level=debug",
	}
	var all nodeRunCommand
	parser, err := kong.New(&all)
	if err != nil {
		t.Fatal(err)
	}
	for _, flag := range parser.Model.Flags {
		if flag.Name != "help" && !slices.ContainsFunc(given, func(g string) bool { return g == "--"+flag.Name || strings.HasPrefix(g, "--"+flag.Name+"=") }) {
			t.Errorf("this test knows nothing of --%s: does the service get it?", flag.Name)
		}
	}
	want := parse(given...)
	args, err := want.arguments()
	if err != nil {
		t.Fatal(err)
	}
	if words := strings.Join(args, " "); strings.Contains(words, "nt-shareai") {
		t.Errorf("the token is in %s", words)
	}
	got := parse(args[2:]...)
	want.Token, want.Name = "", ""                     // were used
	want.CAFile = node.KeptCA("/var/lib/shareai-node") // a copy
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(nodeRunCommand{}, logLevel{})); diff != "" {
		t.Errorf("(-given +service):\n%s", diff)
	}
}
