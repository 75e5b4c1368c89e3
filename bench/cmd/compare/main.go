//go:build linux

// Command compare puts the same load on several gateways in turn, all in front of
// one mock upstream on this machine, and prints what each request cost them. How to
// read the figures is written in the README beside it, in bench/.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are what the command line says.
type options struct {
	scenarios, targets string // names with commas between them; "" is all
	long               bool
	rounds             int           // 0 is as many as the scenario has
	bin                string        // folder with upstream and minimal
	shareai            string        // binary
	records            string        // arguments that make it print its usage as JSON
	profile            string        // where it writes its CPU profile
	json               string        // where the samples go
	patience           time.Duration // what may be spent on waiting for a quiet machine
	keep               bool          // leave the folder with logs and data
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	flags.StringVar(&o.scenarios, "scenarios", "", "scenarios to run, such as A,D; all when empty")
	flags.StringVar(&o.targets, "targets", "", "targets to run, of "+strings.Join(targetNames, ",")+"; all when empty, nginx if it is installed")
	flags.BoolVar(&o.long, "long", os.Getenv("LONG") == "1", "more and longer rounds (also LONG=1)")
	flags.IntVar(&o.rounds, "rounds", 0, "rounds of every scenario, instead of its own number")
	flags.StringVar(&o.bin, "bin", "bin", "folder with the binaries upstream and minimal")
	flags.StringVar(&o.shareai, "shareai", "bin/shareai", "the ShareAI binary")
	flags.StringVar(&o.records, "records", "usage --config {config} --json", "arguments of the ShareAI binary that print its usage as JSON")
	flags.StringVar(&o.profile, "profile", "", "file for a CPU profile of ShareAI, given to it as SHAREAI_CPUPROFILE; .2, .3 … are added when it is started anew")
	flags.StringVar(&o.json, "json", "", "file for all samples as JSON")
	flags.DurationVar(&o.patience, "patience", 20*time.Second, "how long in all to wait, before measurements, for other processes to leave the machine alone")
	flags.BoolVar(&o.keep, "keep", false, "keep the temporary folder with logs, configurations and data")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("%q is not a flag", flags.Arg(0))
	}
	if o.rounds < 0 {
		return o, errors.New("-rounds can not be negative")
	}
	return o, nil
}

func main() {
	// The kernel ends a target when the thread that started it ends; this one lives
	// as long as the program.
	runtime.LockOSThread()
	log.SetFlags(log.Ltime)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch err := command(ctx, os.Args[1:], os.Stdout); {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop has just been called
	}
}

func command(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	scenarios, err := choose(o)
	if err != nil {
		return err
	}
	if err := raiseFileLimit(); err != nil {
		return err
	}
	limit := 15 * time.Minute
	if o.long {
		limit = time.Hour
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done within %v", limit))
	defer cancel()
	return run(ctx, o, scenarios, out)
}

// run makes the whole comparison. A bar that is not reached is an error, after
// everything has been printed.
func run(ctx context.Context, o options, scenarios []scenario, out io.Writer) (err error) {
	b, err := prepare(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()

	rep := &report{Machine: describeMachine(b), Long: o.long}
	_, _ = fmt.Fprintf(out, "%s\n", rep.Machine)
	if err := b.start(ctx); err != nil {
		return err
	}
	for _, sc := range scenarios {
		r, err := b.scenario(ctx, sc)
		if err != nil {
			return err
		}
		rep.Results = append(rep.Results, r)
		_, _ = fmt.Fprint(out, r.table())
	}
	if err := b.stop(); err != nil {
		return err
	}
	rep.Targets = b.contenders
	if c := b.find("shareai"); c != nil {
		rep.Records, err = b.countRecords(ctx, c)
		if err != nil {
			return err
		}
		rep.Bars = judge(rep)
	}
	_, _ = fmt.Fprint(out, rep.closing())
	if o.json != "" {
		if err := rep.save(o.json); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(rep.Bars, func(v verdict) bool { return v.Verdict == failed }) {
		return errors.New("a bar was not reached")
	}
	return nil
}

// choose returns the scenarios that the options name.
func choose(o options) ([]scenario, error) {
	all := shortForm()
	if o.long {
		all = longForm()
	}
	names, err := pick(o.scenarios, scenarioNames(all))
	if err != nil {
		return nil, fmt.Errorf("-scenarios: %w", err)
	}
	all = slices.DeleteFunc(all, func(sc scenario) bool { return !slices.Contains(names, sc.Name) })
	for i := range all {
		if o.rounds > 0 {
			all[i].Rounds = o.rounds
		}
	}
	return all, nil
}

// pick splits a list of names; an empty one is all that there are.
func pick(list string, all []string) ([]string, error) {
	if list == "" {
		return all, nil
	}
	names := strings.Split(list, ",")
	for _, name := range names {
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("there is no %q; there are %s", name, strings.Join(all, ", "))
		}
	}
	return names, nil
}

// raiseFileLimit lets this process, and the targets that inherit it, hold 2,000
// streams with a connection on either side.
func raiseFileLimit() error {
	const needed = 6000
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if limit.Max < needed {
		return fmt.Errorf("at most %d files can be open, and %d are needed: raise the hard limit (ulimit -Hn)", limit.Max, needed)
	}
	limit.Cur = limit.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}
