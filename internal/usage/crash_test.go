//go:build unix

package usage

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// crashDirectory, when set, makes the test binary the process that is going to be killed.
const crashDirectory = "USAGE_TEST_CRASH_DIRECTORY"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDirectory); dir != "" {
		appendForever(dir)
	}
	os.Exit(m.Run())
}

// appendForever writes the id of every record to stdout once the journal has taken it.
func appendForever(dir string) {
	j, err := OpenJournal(dir, JournalOptions{SegmentSize: 64 << 10})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for {
		r := sample()
		if err := j.Append(r); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if _, err := fmt.Println(r.ID); err != nil {
			os.Exit(1)
		}
	}
}

// R37, T10: kill -9 loses no record that was acknowledged.
func TestKillLosesNothing(t *testing.T) {
	for round := range 5 {
		dir := t.TempDir()
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), crashDirectory+"="+dir)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		var acknowledged []string
		lines := bufio.NewReader(out)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				break // what was written in part was not acknowledged
			}
			acknowledged = append(acknowledged, strings.TrimSpace(line))
			if len(acknowledged) == 2000+777*round {
				if _, err := OpenJournal(dir, JournalOptions{}); err == nil {
					t.Fatal("the journal of a living process was opened")
				}
				if err := child.Process.Signal(syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := child.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
		sink, stats := collect(t, dir)
		stored := sink.ids()
		for _, id := range acknowledged {
			if !stored[id] {
				t.Errorf("round %d: %s was acknowledged and is lost", round, id)
			}
		}
		if extra := len(stored) - len(acknowledged); extra > 1 || stats.Damaged != 0 {
			t.Errorf("round %d: %d records were never acknowledged; %+v", round, extra, stats)
		}
	}
}
