//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"shareai/bench/internal/procstat"
	"shareai/bench/internal/target"
)

const model = target.Model

var targetNames = []string{"direct", "minimal", "nginx", "shareai"}

// bench is a comparison under way.
type bench struct {
	options
	dir        string // temporary: logs, configurations, data
	upstream   *contender
	contenders []*contender
}

// contender is one target and what was counted for it over the whole run.
type contender struct {
	spec    target.Spec
	process *target.Process // nil while it is not running, and always for direct
	starts  int

	Name      string        `json:"name"`
	Sent      uint64        `json:"requests_sent"`
	Answered  uint64        `json:"requests_answered"`
	Startup   time.Duration `json:"startup_ns"`
	IdleBytes int64         `json:"idle_bytes"`
}

// pids are its processes; none for direct.
func (c *contender) pids() []int {
	if c.process == nil {
		return nil
	}
	return procstat.Tree(c.process.PID())
}

// prepare makes the folder and the specification of every target; nothing runs yet.
func prepare(o options) (*bench, error) {
	names, err := pick(o.targets, targetNames)
	if err != nil {
		return nil, fmt.Errorf("-targets: %w", err)
	}
	dir, err := os.MkdirTemp("", "shareai-bench-")
	if err != nil {
		return nil, err
	}
	b := &bench{options: o, dir: dir}
	if err := b.specify(names); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return b, nil
}

func (b *bench) specify(names []string) error {
	spec, err := target.Upstream(filepath.Join(b.bin, "upstream"))
	if err != nil {
		return err
	}
	b.upstream = &contender{spec: spec, Name: spec.Name}
	for _, name := range names {
		spec, err := b.specOf(name)
		if errors.Is(err, errNoNginx) && b.targets == "" {
			log.Print(err, "; going on without it")
			continue
		}
		if err != nil {
			return err
		}
		b.contenders = append(b.contenders, &contender{spec: spec, Name: name})
	}
	return nil
}

var errNoNginx = errors.New("nginx is not installed (on Debian and Ubuntu: apt-get install nginx-light)")

func (b *bench) specOf(name string) (target.Spec, error) {
	upstream, dir := b.upstream.spec.Address, filepath.Join(b.dir, name)
	switch name {
	case "direct":
		return target.Direct(upstream), nil
	case "minimal":
		return target.Minimal(filepath.Join(b.bin, "minimal"), upstream)
	case "nginx":
		binary := nginxBinary()
		if binary == "" {
			return target.Spec{}, errNoNginx
		}
		return target.Nginx(binary, dir, upstream)
	default:
		if _, err := os.Stat(b.shareai); err != nil {
			return target.Spec{}, fmt.Errorf("%s is not there: run `make build` first, or leave it out with -targets direct,minimal,nginx", b.shareai)
		}
		return target.ShareAI(b.shareai, dir, upstream)
	}
}

// nginxBinary finds nginx, which is not in the PATH of ordinary users everywhere.
func nginxBinary() string {
	for _, name := range []string{"nginx", "/usr/sbin/nginx"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// start starts the mock and every target, and notes what they take when idle.
func (b *bench) start(ctx context.Context) error {
	for _, c := range b.everything() {
		if err := b.startOne(ctx, c); err != nil {
			return err
		}
	}
	time.Sleep(500 * time.Millisecond) // for what they do right after they are ready
	for _, c := range b.contenders {
		c.IdleBytes = procstat.RSS(c.pids()...)
	}
	return nil
}

func (b *bench) startOne(ctx context.Context, c *contender) error {
	if c.spec.Command == nil {
		return nil
	}
	c.starts++
	var env []string
	if b.profile != "" && c.Name == "shareai" {
		file := b.profile
		if c.starts > 1 {
			file = fmt.Sprintf("%s.%d", file, c.starts)
		}
		env = append(env, "SHAREAI_CPUPROFILE="+file)
	}
	var err error
	c.process, err = target.Start(ctx, c.spec, b.logFile(c), env...)
	if err != nil {
		return err
	}
	if c.starts == 1 {
		c.Startup = c.process.Startup
	}
	return nil
}

func (b *bench) restart(ctx context.Context, c *contender) error {
	if c.process == nil {
		return nil
	}
	if err := c.stop(); err != nil {
		return err
	}
	return b.startOne(ctx, c)
}

func (c *contender) stop() error {
	if c.process == nil {
		return nil
	}
	p := c.process
	c.process = nil
	return p.Stop()
}

// stop ends all targets, then the mock.
func (b *bench) stop() error {
	var errs []error
	for _, c := range slices.Backward(b.everything()) {
		errs = append(errs, c.stop())
	}
	return errors.Join(errs...)
}

// close stops what still runs and removes the folder.
func (b *bench) close() error {
	err := b.stop()
	if b.keep {
		log.Printf("logs, configurations and data are in %s", b.dir)
		return err
	}
	return errors.Join(err, os.RemoveAll(b.dir))
}

func (b *bench) everything() []*contender { return append([]*contender{b.upstream}, b.contenders...) }

func (b *bench) logFile(c *contender) string { return filepath.Join(b.dir, c.Name+".log") }

// find returns the contender of that name, nil when it does not take part.
func (b *bench) find(name string) *contender {
	for _, c := range b.contenders {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// setUpstream gives the mock the timing of a scenario.
func (b *bench) setUpstream(ctx context.Context, sc scenario) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.upstream.spec.Address+"/_mock/set?"+sc.upstream(), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body) // what there is of it is all there is to say
		return fmt.Errorf("the mock refused %s: %s", sc.upstream(), text)
	}
	return nil
}
