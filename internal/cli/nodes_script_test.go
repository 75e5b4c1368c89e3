package cli_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"

	"shareai/internal/enrol"
)

// enrolMachine is `enrol STATUS TOKEN SEED NAME`: a machine, whose key SEED makes, asks the gateway to become a node. The
// answer is in enrolled.json.
func enrolMachine(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: enrol STATUS TOKEN SEED NAME")
	}
	r := enrol.Request{Token: args[1], Name: args[3], AgentVersion: "1.0", Hostname: "desk.example", OS: "linux", Arch: "amd64"}
	r.Sign(ed25519.NewKeyFromSeed(bytes.Repeat([]byte(args[2][:1]), ed25519.SeedSize)))
	body, err := json.Marshal(r)
	ts.Check(err)
	answer, err := http.Post(ts.Getenv("URL")+enrol.Path, "application/json", bytes.NewReader(body))
	ts.Check(err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("enrolled.json"), text, 0o600))
	if strconv.Itoa(answer.StatusCode) != args[0] {
		ts.Fatalf("%d %s", answer.StatusCode, text)
	}
}
