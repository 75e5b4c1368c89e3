package cli_test

import (
	"context"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"shareai/internal/node"
)

// awaitNode is `serves DIR`: it waits until the agent with that data directory has a link and takes requests.
func awaitNode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: serves DIR")
	}
	owner := node.NewOwner(ts.MkAbs(args[0]))
	defer owner.Close()
	deadline := time.After(30 * time.Second)
	for {
		s, err := owner.Status(context.Background())
		if err == nil && s.Phase == node.Serving && len(s.Links) > 0 {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			ts.Fatalf("the node does not serve: %v, %+v", err, s)
		}
	}
}
