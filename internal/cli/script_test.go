package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"shareai/internal/cli"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"shareai": func() {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			code := cli.Run(ctx, cli.Environment{
				Args: os.Args, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.LookupEnv, Version: "1.2.3-test",
			})
			stop()
			os.Exit(code)
		},
		"curl": func() { os.Exit(curl(os.Args[1:])) },
	})
}

// The scripts run the real command in processes of its own.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Condition: func(name string) (bool, error) {
			if name != "systemd" {
				return false, fmt.Errorf("unknown condition %s", name)
			}
			_, err := os.Stat("/run/systemd/system")
			return err == nil, nil
		},
		Setup: func(e *testscript.Env) error {
			e.Setenv("NO_COLOR", "1")
			e.Values[processesKey{}] = processes{}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"demo":    startDemo,
			"server":  startServer,
			"standby": startStandby,
			"end":     end,
			"capture": capture,
			"pasted":  pasted,
			"status":  awaitStatus,
			"adds-up": addsUp,
			"cutter":  cutter,
			"served":  served,
			"serves":  awaitNode,
			"tamper":  tamper,
			"enrol":   enrolMachine,
		},
	})
}

// process is a gateway in the background.
type process struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	rest   chan struct{} // closed when it has closed the output that said that it was ready
	ended  bool
}

type processes map[string]*process

type processesKey struct{}

// processesOf maps the names of a script's gateways to their processes.
func processesOf(ts *testscript.TestScript) processes {
	return ts.Value(processesKey{}).(processes)
}

// startDemo is `demo NAME FLAGS…`: it starts a demo and waits until it says that it is ready. What it
// printed is in NAME.txt, its URL and key in $URL and $KEY.
func startDemo(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: demo NAME [flags]")
	}
	p := newProcess(ts, append([]string{"demo", "--listen", "127.0.0.1:0"}, args[1:]...))
	p.cmd.Stderr = &p.stderr
	stdout, err := p.cmd.StdoutPipe()
	ts.Check(err)
	banner := p.start(ts, stdout, "REQUEST_ID is")
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".txt"), []byte(banner), 0o600))
	ts.Setenv("URL", submatch(ts, `URL +(http\S+)/v1`, banner))
	ts.Setenv("KEY", submatch(ts, `API key +(\S+)`, banner))
	processesOf(ts)[args[0]] = p
}

// startServer is `server NAME FLAGS…`: it starts a gateway and waits until its log says that it serves.
// Its URL is in $URL.
func startServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: server NAME [flags]")
	}
	p := newProcess(ts, append([]string{"serve", "--listen", "127.0.0.1:0", "--log-format", "json"}, args[1:]...))
	stderr, err := p.cmd.StderrPipe()
	ts.Check(err)
	log := p.start(ts, stderr, `"msg":"serving"`)
	ts.Setenv("URL", "http://"+submatch(ts, `"api":"([^"]+)"`, log))
	processesOf(ts)[args[0]] = p
}

// startStandby is `standby NAME FLAGS…`: it starts a stand-by and waits until its log says that it is one.
// Its URL is in $STANDBY.
func startStandby(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: standby NAME [flags]")
	}
	p := newProcess(ts, append([]string{"standby", "--listen", "127.0.0.1:0", "--log-format", "json"}, args[1:]...))
	stderr, err := p.cmd.StderrPipe()
	ts.Check(err)
	log := p.start(ts, stderr, `"msg":"standing by"`)
	ts.Setenv("STANDBY", "http://"+submatch(ts, `"listen":"([^"]+)"`, log))
	processesOf(ts)[args[0]] = p
}

func newProcess(ts *testscript.TestScript, args []string) *process {
	program, err := lookPath(ts.Getenv("PATH"))
	ts.Check(err)
	p := &process{cmd: exec.Command(program, args...), rest: make(chan struct{})}
	p.cmd.Args[0] = "shareai"
	p.cmd.Dir = ts.MkAbs(".")
	p.cmd.Env = environ(ts)
	return p
}

// start starts the process and returns what it writes up to the line that says that it is ready. The
// rest goes where its errors go.
func (p *process) start(ts *testscript.TestScript, output io.Reader, ready string) string {
	ts.Check(p.cmd.Start())
	ts.Defer(func() {
		if !p.ended {
			_ = p.cmd.Process.Kill()
			<-p.rest
			_ = p.cmd.Wait()
		}
	})
	var text strings.Builder
	lines := bufio.NewReader(output)
	for !strings.Contains(text.String(), ready) {
		line, err := lines.ReadString('\n')
		text.WriteString(line)
		if err != nil {
			close(p.rest)
			_ = p.cmd.Wait()
			p.ended = true
			ts.Fatalf("it ended before it was ready: %s%s", text.String(), p.stderr.String())
		}
	}
	go func() {
		defer close(p.rest)
		if p.cmd.Stdout == nil { // it is the log that said so
			_, _ = io.Copy(&p.stderr, lines)
		} else {
			_, _ = io.Copy(io.Discard, lines)
		}
	}()
	return text.String()
}

// environ is the environment of a script's commands.
func environ(ts *testscript.TestScript) []string {
	var list []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "NO_COLOR", "SHAREAI_DEMO_KEY", "APP_KEY", "GOCOVERDIR"} {
		if value := ts.Getenv(name); value != "" {
			list = append(list, name+"="+value)
		}
	}
	return list
}

func lookPath(path string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		if program, err := exec.LookPath(filepath.Join(dir, "shareai")); err == nil {
			return program, nil
		}
	}
	return "", errors.New("shareai is not in the path")
}

// end is `end NAME`: it asks the gateway to end, as a terminal or a service manager does, and expects
// that it does so in order and without an error in its log. What it logged is in NAME.log.
func end(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: end NAME")
	}
	p := processesOf(ts)[args[0]]
	if p == nil {
		ts.Fatalf("nothing is named %q", args[0])
	}
	ts.Check(p.cmd.Process.Signal(syscall.SIGTERM))
	<-p.rest
	p.ended = true
	err := p.cmd.Wait()
	log := p.stderr.String()
	if err != nil || regexp.MustCompile(`level=ERROR|"level":"ERROR"|panic:`).MatchString(log) {
		ts.Fatalf("it ended with %v and said:\n%s", err, log)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".log"), []byte(log), 0o600))
}

// capture is `capture NAME REGEXP FILE`: the first group of the match becomes $NAME.
func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: capture NAME REGEXP FILE")
	}
	ts.Setenv(args[0], submatch(ts, args[1], ts.ReadFile(args[2])))
}

func submatch(ts *testscript.TestScript, pattern, text string) string {
	found := regexp.MustCompile(`(?m)` + pattern).FindStringSubmatch(text)
	if found == nil {
		ts.Fatalf("no match for %q in:\n%s", pattern, text)
	}
	return found[1]
}

// pasted is `pasted N FROM TO`: it copies the Nth command line that begins with curl out of a text, as
// a person would, continuation lines included.
func pasted(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: pasted N FROM TO")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	commands := regexp.MustCompile(`(?m)^ *curl (.*\\\n)*.*$`).FindAllString(ts.ReadFile(args[1]), -1)
	if len(commands) < n {
		ts.Fatalf("there are only %d commands", len(commands))
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(commands[n-1]+"\n"), 0o600))
}

// awaitStatus is `status CODE KEY SPAN`: within the span a chat request with the key is answered with
// the code.
func awaitStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: status CODE KEY SPAN")
	}
	await(ts, args[0], args[2], func() string { return strconv.Itoa(modelsStatus(ts, args[1])) })
}

// await asks again and again, within a span, until the answer is the wanted one.
func await(ts *testscript.TestScript, want, within string, ask func() string) {
	span, err := time.ParseDuration(within)
	ts.Check(err)
	end := time.After(span)
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		got := ask()
		if got == want {
			return
		}
		select {
		case <-end:
			ts.Fatalf("still %s after %s", got, span)
		case <-again.C:
		}
	}
}

func modelsStatus(ts *testscript.TestScript, key string) int {
	r, err := http.NewRequest(http.MethodGet, ts.Getenv("URL")+"/v1/models", nil)
	ts.Check(err)
	r.Header.Set("Authorization", "Bearer "+key)
	answer, err := http.DefaultClient.Do(r)
	ts.Check(err)
	_ = answer.Body.Close()
	return answer.StatusCode
}

// addsUp is `adds-up FILE REQUESTS`: in a usage report every total is the sum of its rows, and the
// number of requests is as given.
func addsUp(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: adds-up FILE REQUESTS")
	}
	var report struct {
		Rows  []map[string]any `json:"rows"`
		Total map[string]any   `json:"total"`
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &report))
	sum := map[string]float64{}
	total := map[string]float64{}
	for _, name := range []string{
		"requests", "failures", "canceled", "estimated", "prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "cache_write_tokens", "cost_nano_usd",
	} {
		sum[name] = 0
		for _, row := range report.Rows {
			sum[name] += row[name].(float64)
		}
		total[name] = report.Total[name].(float64)
	}
	if diff := cmp.Diff(sum, total); diff != "" {
		ts.Fatalf("the rows and the total differ:\n%s", diff)
	}
	if got := fmt.Sprint(total["requests"]); got != args[1] {
		ts.Fatalf("%s requests, want %s", got, args[1])
	}
}

// cutter is `cutter`: a proxy in front of the demo that breaks off every stream after its first chunk.
// $CUT is its URL.
func cutter(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: cutter")
	}
	target, err := url.Parse(ts.Getenv("URL"))
	ts.Check(err)
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		FlushInterval: -1,
		ModifyResponse: func(r *http.Response) error {
			if strings.HasPrefix(r.Header.Get("Content-Type"), "text/event-stream") {
				r.Body = struct {
					io.Reader
					io.Closer
				}{io.LimitReader(r.Body, 300), r.Body}
			}
			return nil
		},
	}
	server := httptest.NewServer(proxy)
	ts.Defer(server.Close)
	ts.Setenv("CUT", server.URL)
}

// curl is as much of curl as the printed command lines use.
func curl(args []string) int {
	method, address, body, head := http.MethodGet, "", "", false
	header := http.Header{"User-Agent": {"curl"}}
	for i := 0; i < len(args); i++ {
		switch value := args[min(i+1, len(args)-1)]; args[i] {
		case "-N", "-s":
		case "-i":
			head = true
		case "-H":
			name, text, _ := strings.Cut(value, ":")
			header.Set(name, strings.TrimSpace(text))
			i++
		case "-d":
			method, body = http.MethodPost, value
			if file, ok := strings.CutPrefix(value, "@"); ok {
				text, err := os.ReadFile(file)
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					return 26
				}
				body = string(text)
			}
			i++
		default:
			address = args[i]
		}
	}
	request, err := http.NewRequest(method, address, strings.NewReader(body))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	request.Header = header
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 7
	}
	defer func() { _ = answer.Body.Close() }()
	if head {
		fmt.Println(answer.Status)
		names := make([]string, 0, len(answer.Header))
		for name := range answer.Header {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			fmt.Printf("%s: %s\n", strings.ToLower(name), answer.Header.Get(name))
		}
		fmt.Println()
	}
	if _, err := io.Copy(os.Stdout, answer.Body); err != nil {
		return 18
	}
	return 0
}
