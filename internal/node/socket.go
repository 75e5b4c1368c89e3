package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"time"
)

// The agent answers its owner at a socket in its folder. There is no port: whoever may not read the folder can not reach
// it, and nothing on the network can.

const (
	pathStatus = "/status"
	pathPause  = "/pause" // ?at_once=1 ends what runs
	pathResume = "/resume"
	pathRotate = "/rotate"

	socketTime = 30 * time.Second // for one answer
	maxSocket  = 104              // bytes of a path, on the strictest of the systems
)

// listen opens the socket, and says when another agent has it.
func (f folder) listen(ctx context.Context) (net.Listener, error) {
	path := f.path(socketFile)
	if len(path) >= maxSocket {
		return nil, &Problem{Message: "the path of the data directory is too long for the socket in it: " + path, Hint: "give a shorter --data-dir"}
	}
	if c, err := new(net.Dialer).DialContext(ctx, "unix", path); err == nil {
		_ = c.Close()
		return nil, &Problem{
			Message: fmt.Sprintf("an agent is running with the data directory %s", f),
			Hint:    "stop it, or give this one a --data-dir of its own",
		}
	}
	if err := f.remove(socketFile); err != nil { // of an agent that was killed
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, &Problem{Message: "the socket " + path + " can not be opened", Hint: err.Error(), Cause: err}
	}
	return l, errors.Join(os.Chmod(path, 0o600))
}

// ownerServer answers the owner.
func (a *agent) ownerServer() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathStatus, a.answer(func(*http.Request) error { return nil }))
	mux.HandleFunc("POST "+pathPause, a.answer(func(r *http.Request) error { return a.pause(r.URL.Query().Get("at_once") != "") }))
	mux.HandleFunc("POST "+pathResume, a.answer(func(*http.Request) error { return a.resume() }))
	mux.HandleFunc("POST "+pathRotate, a.answer(func(r *http.Request) error { return a.rotate(r.Context()) }))
	return &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: socketTime, MaxHeaderBytes: 8 << 10}
}

// answer does something and says how things are then.
func (a *agent) answer(do func(*http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := do(r); err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
			return
		}
		_ = json.NewEncoder(w).Encode(a.status())
	}
}

// Owner speaks to the agent that runs with a data directory.
type Owner struct {
	dir    folder
	client *http.Client
}

// NewOwner speaks to the agent that runs with this data directory. Close gives up what it holds.
func NewOwner(dataDir string) *Owner {
	dir := folder(dataDir)
	return &Owner{dir: dir, client: &http.Client{Timeout: socketTime, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", dir.path(socketFile))
		},
	}}}
}

// Close releases connections.
func (o *Owner) Close() { o.client.CloseIdleConnections() }

// Status asks how things are.
func (o *Owner) Status(ctx context.Context) (Status, error) {
	return o.call(ctx, http.MethodGet, pathStatus)
}

// Pause makes the node take no more requests, until Resume; also after a restart. What runs may end within the grace.
func (o *Owner) Pause(ctx context.Context) (Status, error) {
	return o.call(ctx, http.MethodPost, pathPause)
}

// PauseAtOnce is Pause without a grace.
func (o *Owner) PauseAtOnce(ctx context.Context) (Status, error) {
	return o.call(ctx, http.MethodPost, pathPause+"?at_once=1")
}

// Resume ends a pause.
func (o *Owner) Resume(ctx context.Context) (Status, error) {
	return o.call(ctx, http.MethodPost, pathResume)
}

// Rotate replaces the node's key by a new one.
func (o *Owner) Rotate(ctx context.Context) (Status, error) {
	return o.call(ctx, http.MethodPost, pathRotate)
}

func (o *Owner) call(ctx context.Context, method, path string) (s Status, err error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://node"+path, http.NoBody)
	if err != nil {
		return s, err
	}
	answer, err := o.client.Do(r)
	switch {
	case errors.Is(err, fs.ErrNotExist) || nobodyThere(err):
		return s, &Problem{
			Message: fmt.Sprintf("no agent is running with the data directory %s", o.dir),
			Hint:    "start one with shareai node, or give the --data-dir of the one that is running", Cause: err,
		}
	case errors.Is(err, fs.ErrPermission):
		return s, &Problem{
			Message: fmt.Sprintf("the agent with the data directory %s is of another user", o.dir), Hint: "run this command as that user", Cause: err,
		}
	case err != nil:
		return s, err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 16<<20))
	if err != nil {
		return s, err
	}
	if answer.StatusCode != http.StatusOK {
		var said struct{ Error string }
		_ = json.NewDecoder(bytes.NewReader(text)).Decode(&said)
		return s, &Problem{Message: "the agent could not do it: " + said.Error}
	}
	return s, json.Unmarshal(text, &s)
}
