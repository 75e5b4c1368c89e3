package cluster_test

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"shareai/internal/cluster"
	"shareai/internal/cluster/clustertest"
	"shareai/internal/fault"
)

func TestMemoryAnswers(t *testing.T) {
	t.Parallel()
	clustertest.RunAnswers(t, func(_ *testing.T, limits cluster.AnswerLimits) (here, there cluster.Answers) {
		m := cluster.NewMemoryAnswers(limits)
		return m, m
	})
}

func TestRedisAnswers(t *testing.T) {
	t.Parallel()
	server := redisServer(t)
	clustertest.RunAnswers(t, func(t *testing.T, limits cluster.AnswerLimits) (here, there cluster.Answers) {
		return newRedis(t, server, new(logBuffer)).Answers(limits), newRedis(t, server, new(logBuffer)).Answers(limits)
	})
}

func TestAKeptAnswerExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := cluster.NewMemoryAnswers(cluster.AnswerLimits{})
		tape := clustertest.Record(t, m, "n")
		clustertest.Add(t, tape, "a")
		time.Sleep(30 * time.Hour) // a running one does not
		tape.Keep(nil)
		time.Sleep(24*time.Hour - 1)
		clustertest.ExpectEnd(t, clustertest.Play(t, m, "n"), "a")
		time.Sleep(time.Nanosecond)
		clustertest.Record(t, m, "n")
	})
}

func TestTheOldestAnswersMakeWay(t *testing.T) {
	t.Parallel()
	m := cluster.NewMemoryAnswers(cluster.AnswerLimits{Kept: 11 << 10})
	frame := strings.Repeat("x", 3<<10)
	for _, name := range []string{"1", "2", "3", "4"} {
		tape := clustertest.Record(t, m, name)
		clustertest.Add(t, tape, frame)
		tape.Keep(nil)
	}
	clustertest.Record(t, m, "1").Drop(nil)
	for _, name := range []string{"2", "3", "4"} {
		clustertest.ExpectEnd(t, clustertest.Play(t, m, name), frame)
	}
}

// What runs is bounded by refusing what would run as well.
func TestTooManyRunningAnswers(t *testing.T) {
	t.Parallel()
	server := ""
	if !testing.Short() {
		server = redisServer(t)
	}
	limits := cluster.AnswerLimits{Running: 4 << 10}
	for name, answers := range map[string]func() cluster.Answers{
		"memory": func() cluster.Answers { return cluster.NewMemoryAnswers(limits) },
		"redis":  func() cluster.Answers { return newRedis(t, server, new(logBuffer)).Answers(limits) },
	} {
		if name == "redis" && server == "" {
			continue
		}
		a, running := answers(), rand.Text()
		tape := clustertest.Record(t, a, running)
		clustertest.Add(t, tape, strings.Repeat("x", 5<<10))
		if _, err := a.Claim(t.Context(), rand.Text(), cluster.Fingerprint{}); fault.From(err).Kind != fault.Unavailable || fault.From(err).RetryAfter == 0 {
			t.Errorf("%s: %v", name, err)
		}
		tape.Keep(nil)
		clustertest.Record(t, a, rand.Text())
	}
}

// Whatever is recorded and whenever it is played, a player gets all of it, in order.
func TestPlayersGetEverything(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		m := cluster.NewMemoryAnswers(cluster.AnswerLimits{})
		c, err := m.Claim(t.Context(), "n", cluster.Fingerprint{})
		if err != nil {
			rt.Fatal(err)
		}
		var written strings.Builder
		players, heard := []cluster.Player{}, []*strings.Builder{}
		play := func(n int) {
			frames, err := players[n].Next(t.Context())
			if err != nil && !errors.Is(err, io.EOF) {
				rt.Fatal(err)
			}
			for _, f := range frames {
				heard[n].Write(f)
			}
			if heard[n].String() != written.String() {
				rt.Fatalf("heard %q of %q", heard[n], written.String())
			}
		}
		for _, frame := range rapid.SliceOf(rapid.StringN(1, 20, -1)).Draw(rt, "frames") {
			if rapid.Bool().Draw(rt, "join") {
				players, heard = append(players, c.Tape.Play()), append(heard, new(strings.Builder))
			}
			clustertest.Add(t, c.Tape, frame)
			written.WriteString(frame)
			for n := range players {
				if rapid.Bool().Draw(rt, "play") {
					play(n)
				}
			}
		}
		c.Tape.Keep(nil)
		for n := range players {
			play(n)
		}
	})
}

// apart returns a replica behind a wire that can be cut, and one with a connection of its own.
func apart(t *testing.T, lease time.Duration) (w *wire, here, there cluster.Answers) {
	t.Helper()
	server := redisServer(t)
	w, near := newWire(t, server)
	limits := cluster.AnswerLimits{Lease: lease}
	return w, newRedis(t, near, new(logBuffer)).Answers(limits), newRedis(t, server, new(logBuffer)).Answers(limits)
}

// A process that dies holds no name: who plays its tape is told, and the next claimant gets a new one.
func TestTheNameOfADeadProcessBecomesFree(t *testing.T) {
	t.Parallel()
	w, here, there := apart(t, 300*time.Millisecond)
	name := rand.Text()
	tape := clustertest.Record(t, here, name)
	clustertest.Add(t, tape, "a")
	player := clustertest.Play(t, there, name)
	clustertest.Expect(t, player, "a")
	w.setCut(true)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if frames, err := player.Next(ctx); !errors.Is(err, cluster.ErrLost) {
		t.Fatalf("%q, %v", frames, err)
	}
	again := clustertest.Record(t, there, name)
	clustertest.Add(t, again, "b")
	again.Keep(nil)
	// The one that was thought dead comes back: it must not add to what is no longer its own.
	w.setCut(false)
	clustertest.Add(t, tape, "c")
	tape.Keep(nil)
	clustertest.ExpectEnd(t, tape.Play(), "a", "c")
	clustertest.ExpectEnd(t, clustertest.Play(t, there, name), "b")
}

// A recorder that has nothing to say for longer than the lease keeps its name.
func TestALongSilenceKeepsTheName(t *testing.T) {
	t.Parallel()
	_, here, there := apart(t, 200*time.Millisecond)
	name := rand.Text()
	tape := clustertest.Record(t, here, name)
	player := clustertest.Play(t, there, name)
	<-time.After(700 * time.Millisecond)
	clustertest.Add(t, tape, "late")
	tape.Keep(nil)
	clustertest.ExpectEnd(t, player, "late")
}

// Redis may be away for less than the lease, for the recorder and for the player.
func TestRedisIsAwayForAMoment(t *testing.T) {
	t.Parallel()
	w, here, there := apart(t, 10*time.Second)
	name := rand.Text()
	tape := clustertest.Record(t, here, name)
	player, near := clustertest.Play(t, there, name), clustertest.Play(t, here, name)
	clustertest.Add(t, tape, "a")
	clustertest.Expect(t, player, "a")
	w.setCut(true)
	clustertest.Add(t, tape, "b")
	if _, err := here.Claim(t.Context(), rand.Text(), cluster.Fingerprint{}); fault.From(err).Kind != fault.Unavailable {
		t.Errorf("a claim over a cut wire: %v", err)
	}
	clustertest.Expect(t, tape.Play(), "a", "b") // the own caller does not notice
	w.setCut(false)
	clustertest.Add(t, tape, "c")
	tape.Keep(nil)
	clustertest.ExpectEnd(t, player, "b", "c")
	clustertest.ExpectEnd(t, near, "a", "b", "c")
}

// What Redis did and could not say is not done again.
func TestALostReplyDoublesNothing(t *testing.T) {
	t.Parallel()
	w, here, there := apart(t, 10*time.Second)
	name := rand.Text()
	tape := clustertest.Record(t, here, name)
	player := clustertest.Play(t, there, name)
	clustertest.Add(t, tape, "a")
	clustertest.Expect(t, player, "a")
	for _, frame := range []string{"b", "c", "d"} {
		w.drops.Store(1)
		clustertest.Add(t, tape, frame)
		clustertest.Expect(t, player, frame)
	}
	w.drops.Store(1)
	tape.Keep(nil)
	clustertest.ExpectEnd(t, player)
	clustertest.ExpectEnd(t, clustertest.Play(t, there, name), "a", "b", "c", "d")
}

// Whoever has lost a name, because Redis evicted it or because his process stood still, holds it no more
// for others.
func TestALostNameIsNotProlonged(t *testing.T) {
	t.Parallel()
	w, second, first := apart(t, 300*time.Millisecond)
	options, err := redis.ParseURL(redisServer(t))
	if err != nil {
		t.Fatal(err)
	}
	raw := redis.NewClient(options)
	defer func() { _ = raw.Close() }()
	name := rand.Text()
	lost := clustertest.Record(t, first, name)
	clustertest.Add(t, lost, "a")
	clustertest.Expect(t, clustertest.Play(t, first, name), "a")
	if err := raw.Del(t.Context(), "shareai:answer:"+name).Err(); err != nil {
		t.Fatal(err)
	}
	clustertest.Add(t, clustertest.Record(t, second, name), "b")
	player := clustertest.Play(t, first, name)
	clustertest.Expect(t, player, "b")
	clustertest.Add(t, lost, "c") // and its recorder goes on
	w.setCut(true)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if frames, err := player.Next(ctx); !errors.Is(err, cluster.ErrLost) {
		t.Fatalf("%q, %v", frames, err)
	}
	clustertest.Record(t, first, name)
}

// An answer that has just ended is copied before the connection closes.
func TestCloseWaitsForCopies(t *testing.T) {
	t.Parallel()
	server := redisServer(t)
	here, there := newRedis(t, server, new(logBuffer)), newRedis(t, server, new(logBuffer))
	name := rand.Text()
	tape := clustertest.Record(t, here.Answers(cluster.AnswerLimits{}), name)
	clustertest.Add(t, tape, "a", "b")
	tape.Keep(nil)
	if err := here.Close(); err != nil {
		t.Error(err)
	}
	clustertest.ExpectEnd(t, clustertest.Play(t, there.Answers(cluster.AnswerLimits{}), name), "a", "b")
	if _, err := here.Answers(cluster.AnswerLimits{}).Claim(t.Context(), rand.Text(), cluster.Fingerprint{}); fault.From(err).Kind != fault.Unavailable {
		t.Errorf("a claim after Close: %v", err)
	}
}
