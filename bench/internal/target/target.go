//go:build linux

// Package target says how each gateway of a comparison is started in front of the
// mock upstream, and starts and stops it.
package target

import (
	"embed"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"text/template"
	"time"
)

// Model is the model that every target serves.
const Model = "gpt-4o-mini"

const secret = "sk-bench-0123456789abcdefghijklmnopqrstuv"

// Spec is one target.
type Spec struct {
	Name    string
	Address string        // host:port that it listens on
	Header  http.Header   // what a client sends along
	Command []string      // nil: nothing to start
	Config  string        // its configuration file, where it has one
	Ready   string        // a path that answers 200 when it can serve; "" is ready when it accepts connections
	Settle  time.Duration // how long it must be calm after the last answer before its work counts as done
}

// calm is the Settle of targets that do nothing once a request is answered.
const calm = 300 * time.Millisecond

// Upstream is the mock, from its binary, on a free port.
func Upstream(binary string) (Spec, error) {
	address, err := freeAddress()
	return Spec{Name: "upstream", Address: address, Command: []string{binary, "-addr", address}}, err
}

// Direct is no gateway at all: what it shows is the limit of load and mock.
func Direct(upstream string) Spec { return Spec{Name: "direct", Address: upstream} }

// Minimal is the smallest gateway in Go, from its binary.
func Minimal(binary, upstream string) (Spec, error) {
	address, err := freeAddress()
	return Spec{
		Name:    "minimal",
		Address: address,
		Command: []string{binary, "-addr", address, "-upstream", "http://" + upstream},
		Settle:  calm,
	}, err
}

// Nginx is nginx, from its binary; its files go under dir.
func Nginx(binary, dir, upstream string) (Spec, error) {
	address, config, err := configure("nginx.conf", dir, upstream)
	return Spec{
		Name:    "nginx",
		Address: address,
		Command: []string{binary, "-p", dir, "-e", "stderr", "-c", config},
		Config:  config,
		Settle:  calm,
	}, err
}

// ShareAI is the gateway that this repository builds, from its binary; its
// configuration and data go under dir. Records are written in batches after the
// answers, so it has to be calm for longer than a batch waits.
func ShareAI(binary, dir, upstream string) (Spec, error) {
	address, config, err := configure("shareai.yaml", dir, upstream)
	return Spec{
		Name:    "shareai",
		Address: address,
		Header:  http.Header{"Authorization": {"Bearer " + secret}},
		Command: []string{binary, "serve", "--config", config},
		Config:  config,
		Ready:   "/readyz",
		Settle:  1200 * time.Millisecond,
	}, err
}

//go:embed nginx.conf.tmpl shareai.yaml.tmpl
var templates embed.FS

// configure chooses an address and writes the configuration file name for it.
func configure(name, dir, upstream string) (address, path string, err error) {
	if address, err = freeAddress(); err != nil {
		return "", "", err
	}
	t, err := template.ParseFS(templates, name+".tmpl")
	if err != nil {
		return "", "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", err
	}
	path = filepath.Join(dir, name)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = file.Close() }()
	values := struct{ Listen, Dir, Upstream, Secret, Model string }{address, dir, upstream, secret, Model}
	if err := t.Execute(file, values); err != nil {
		return "", "", fmt.Errorf("%s: %w", path, err)
	}
	return address, path, file.Close()
}

// freeAddress finds a loopback port that nobody listens on.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it returns at once
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
