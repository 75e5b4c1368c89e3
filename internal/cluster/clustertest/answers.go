package clustertest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"shareai/internal/cluster"
)

// pair are two replicas that share answers.
type pair struct{ here, there cluster.Answers }

// RunAnswers runs the suite. join returns the Answers of two replicas of a new cluster; an implementation
// for a single process returns the same twice.
func RunAnswers(t *testing.T, join func(*testing.T, cluster.AnswerLimits) (here, there cluster.Answers)) {
	small := cluster.AnswerLimits{Answer: 4 << 10, Tape: 64 << 10, Kept: 64 << 10}
	for name, test := range map[string]func(*testing.T, pair){
		"a repeat after the end plays the whole":           testRepeat,
		"a repeat meanwhile plays from the start":          testAttach,
		"an empty answer is an answer":                     testEmpty,
		"other work under the name is refused":             testOtherWork,
		"what is dropped reaches those who play it":        testDrop,
		"what is too long is not kept":                     testTooLong,
		"a tape has an end":                                testFull,
		"one of many claimants gets the tape":              testManyClaimants,
		"a slow player holds nobody up":                    testSlowPlayer,
		"a player stops with its context":                  testPlayerContext,
		"ending twice is ending once":                      testEndTwice,
		"names are separate":                               testNames,
		"large answers come in order, whatever their size": testLarge,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			here, there := join(t, small)
			test(t, pair{here, there})
		})
	}
}

func work(s string) cluster.Fingerprint { return sha256.Sum256([]byte(s)) }

// Record claims a name that must be free.
func Record(t *testing.T, a cluster.Answers, name string) *cluster.Tape {
	t.Helper()
	c, err := a.Claim(t.Context(), name, work("it"))
	if err != nil || c.Tape == nil || c.Player != nil {
		t.Fatalf("claim of a free name: %+v, %v", c, err)
	}
	t.Cleanup(func() { c.Tape.Drop(nil) })
	return c.Tape
}

// Play claims a name that must be taken.
func Play(t *testing.T, a cluster.Answers, name string) cluster.Player {
	t.Helper()
	c, err := a.Claim(t.Context(), name, work("it"))
	if err != nil || c.Tape != nil || c.Player == nil {
		t.Fatalf("claim of a taken name: %+v, %v", c, err)
	}
	return c.Player
}

// Add records frames.
func Add(t *testing.T, tape *cluster.Tape, frames ...string) {
	t.Helper()
	for _, f := range frames {
		if err := tape.Append([]byte(f)); err != nil {
			t.Fatalf("append: %v", err)
		}
	}
}

// Expect plays exactly these frames.
func Expect(t *testing.T, p cluster.Player, frames ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for len(frames) > 0 {
		got, err := p.Next(ctx)
		if err != nil && !(errors.Is(err, io.EOF) && len(got) == len(frames)) {
			t.Fatalf("%d frames before the end: %v", len(frames), err)
		}
		for _, frame := range got {
			if len(frames) == 0 || string(frame) != frames[0] {
				t.Fatalf("frame %.80q, want %.80q", frame, frames)
			}
			frames = frames[1:]
		}
	}
}

// ExpectEnd plays these frames and then the end.
func ExpectEnd(t *testing.T, p cluster.Player, frames ...string) {
	t.Helper()
	Expect(t, p, frames...)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if got, err := p.Next(ctx); len(got) > 0 || !errors.Is(err, io.EOF) {
		t.Fatalf("after the last frame: %q, %v", got, err)
	}
}

func testRepeat(t *testing.T, p pair) {
	name := rand.Text()
	tape := Record(t, p.here, name)
	Add(t, tape, "a", "b")
	tape.Keep([]byte("c"))
	for _, a := range []cluster.Answers{p.here, p.there, p.here} {
		ExpectEnd(t, Play(t, a, name), "a", "b", "c")
	}
}

func testAttach(t *testing.T, p pair) {
	name := rand.Text()
	tape := Record(t, p.here, name)
	own := tape.Play()
	early := Play(t, p.there, name)
	Add(t, tape, "a", "b")
	Expect(t, own, "a", "b")
	Expect(t, early, "a", "b")
	late := Play(t, p.there, name)
	Expect(t, late, "a", "b")
	Add(t, tape, "c")
	for _, player := range []cluster.Player{own, early, late} {
		Expect(t, player, "c")
	}
	tape.Keep(nil)
	for _, player := range []cluster.Player{own, early, late} {
		ExpectEnd(t, player)
	}
}

func testEmpty(t *testing.T, p pair) {
	name := rand.Text()
	tape := Record(t, p.here, name)
	player := Play(t, p.there, name)
	tape.Keep(nil)
	ExpectEnd(t, player)
	ExpectEnd(t, Play(t, p.here, name))
}

func testOtherWork(t *testing.T, p pair) {
	name := rand.Text()
	tape := Record(t, p.here, name)
	refused := func(when string) {
		for _, a := range []cluster.Answers{p.here, p.there} {
			if c, err := a.Claim(t.Context(), name, work("other")); !errors.Is(err, cluster.ErrOtherWork) {
				t.Errorf("%s: %+v, %v", when, c, err)
			}
		}
	}
	refused("running")
	tape.Keep(nil)
	ExpectEnd(t, Play(t, p.there, name)) // which says that the end is known there
	refused("kept")
}

func testDrop(t *testing.T, p pair) {
	name := rand.Text()
	tape := Record(t, p.here, name)
	player, slow := Play(t, p.there, name), Play(t, p.here, name)
	Add(t, tape, "an", "error")
	tape.Drop(nil)
	ExpectEnd(t, player, "an", "error")
	again := Record(t, p.there, name)
	Add(t, again, "better")
	again.Keep(nil)
	ExpectEnd(t, Play(t, p.there, name), "better")
	ExpectEnd(t, slow, "an", "error")
}

func testTooLong(t *testing.T, p pair) {
	name := rand.Text()
	tape := Record(t, p.here, name)
	player := Play(t, p.there, name)
	long := string(bytes.Repeat([]byte("x"), 3<<10))
	Add(t, tape, long, long)
	tape.Keep(nil)
	ExpectEnd(t, player, long, long)
	Record(t, p.there, name)
}

func testFull(t *testing.T, p pair) {
	tape := Record(t, p.here, rand.Text())
	frame := make([]byte, 10<<10)
	for n := range 7 {
		if err := tape.Append(bytes.Clone(frame)); (err != nil) != (n == 6) {
			t.Errorf("%d bytes on a tape of 64 KiB: %v", (n+1)*len(frame), err)
		}
	}
}

func testManyClaimants(t *testing.T, p pair) {
	name := rand.Text()
	const claimants = 32
	claims := make(chan cluster.Claim, claimants)
	var group sync.WaitGroup
	for n := range claimants {
		group.Go(func() {
			c, err := []cluster.Answers{p.here, p.there}[n%2].Claim(t.Context(), name, work("it"))
			if err != nil {
				t.Errorf("claim: %v", err)
			}
			claims <- c
		})
	}
	group.Wait()
	close(claims)
	var tape *cluster.Tape
	var players []cluster.Player
	for c := range claims {
		if c.Player != nil {
			players = append(players, c.Player)
			continue
		}
		if tape != nil {
			t.Fatal("two claimants got a tape")
		}
		tape = c.Tape
	}
	if tape == nil {
		t.Fatal("nobody got the tape")
	}
	Add(t, tape, "once")
	tape.Keep(nil)
	for _, player := range players {
		ExpectEnd(t, player, "once")
	}
}

func testSlowPlayer(t *testing.T, p pair) {
	name := rand.Text()
	tape := Record(t, p.here, name)
	slow := Play(t, p.there, name)
	var all []string
	for n := range 500 {
		all = append(all, fmt.Sprint(n))
	}
	Add(t, tape, all[:300]...)
	Expect(t, tape.Play(), all[:300]...)
	Add(t, tape, all[300:]...)
	tape.Drop(nil) // too long to be kept, with what it takes to hold a frame
	ExpectEnd(t, slow, all...)
}

func testPlayerContext(t *testing.T, p pair) {
	name := rand.Text()
	tape := Record(t, p.here, name)
	for _, player := range []cluster.Player{tape.Play(), Play(t, p.there, name)} {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			_, err := player.Next(ctx)
			ended <- err
		}()
		cancel()
		select {
		case err := <-ended:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
		case <-time.After(patience):
			t.Fatal("it plays on")
		}
	}
}

func testEndTwice(t *testing.T, p pair) {
	name := rand.Text()
	tape := Record(t, p.here, name)
	Add(t, tape, "a")
	tape.Keep(nil)
	tape.Drop(nil)
	tape.Keep(nil)
	ExpectEnd(t, Play(t, p.here, name), "a")
}

func testNames(t *testing.T, p pair) {
	one, two := rand.Text(), rand.Text()
	first, second := Record(t, p.here, one), Record(t, p.here, two)
	Add(t, first, "1")
	Add(t, second, "2")
	first.Keep(nil)
	second.Keep(nil)
	ExpectEnd(t, Play(t, p.there, one), "1")
	ExpectEnd(t, Play(t, p.there, two), "2")
}

func testLarge(t *testing.T, p pair) {
	name := rand.Text()
	tape := Record(t, p.here, name)
	player := Play(t, p.there, name)
	var all []string
	for n := range 190 {
		all = append(all, fmt.Sprint(n)+string(make([]byte, n)))
	}
	Add(t, tape, all...)
	tape.Keep(nil)
	ExpectEnd(t, player, all...)
}
