package alert

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// told is what the people hear of one subject.
type told struct {
	at      time.Time
	edge    Edge
	episode string
	level   Level
}

// life runs observations through episodes as the watcher does, with the rows between them written and read again: a
// restart is no different from the next look.
func life(t interface{ Fatal(...any) }, pace Pace, looks []look) []told {
	var last *Episode
	var heard []told
	for _, l := range looks {
		after, edge := Step(last, Observation{Rule: ProviderDown, Subject: "alpha", Level: l.level}, pace, l.at)
		if edge != None {
			heard = append(heard, told{l.at, edge, after.ID, after.Level})
		}
		if after != nil || last != nil && last.Live() {
			last = after
		}
		text, err := json.Marshal(last)
		if err != nil {
			t.Fatal(err)
		}
		var stored *Episode
		if err := json.Unmarshal(text, &stored); err != nil {
			t.Fatal(err)
		}
		last = stored
	}
	return heard
}

type look struct {
	at    time.Time
	level Level
}

var start = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func drawLooks(t *rapid.T) []look {
	at := start
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) look {
		at = at.Add(time.Duration(rapid.IntRange(1, 90).Draw(t, "seconds")) * time.Second)
		return look{at, Level(rapid.IntRange(-1, 3).Draw(t, "level"))}
	}), 1, 200).Draw(t, "looks")
}

// Whatever comes: an episode is opened once, raised only to what is worse than ever before, and ended once.
func TestPeopleHearOfAnEpisodeInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pace := Pace{After: time.Duration(rapid.IntRange(0, 120).Draw(t, "after")) * time.Second, Calm: time.Duration(rapid.IntRange(0, 300).Draw(t, "calm")) * time.Second}
		open, level, seen := "", Well, map[string]bool{}
		for _, h := range life(t, pace, drawLooks(t)) {
			switch h.edge {
			case Opened:
				if open != "" || seen[h.episode] {
					t.Fatalf("%+v while %q is open", h, open)
				}
				open, level, seen[h.episode] = h.episode, h.level, true
			case Raised:
				if h.episode != open || h.level <= level {
					t.Fatalf("%+v after level %d of %q", h, level, open)
				}
				level = h.level
			case Ends:
				if h.episode != open {
					t.Fatalf("%+v while %q is open", h, open)
				}
				open = ""
			}
		}
	})
}

// It opens only after it was bad, without a break, for as long as was asked for, and ends only after as long a calm.
func TestAnEpisodeTakesItsTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pace := Pace{After: time.Duration(rapid.IntRange(1, 120).Draw(t, "after")) * time.Second, Calm: time.Duration(rapid.IntRange(1, 300).Draw(t, "calm")) * time.Second}
		looks := drawLooks(t)
		for _, h := range life(t, pace, looks) {
			var needs time.Duration
			var breaks func(Level) bool
			switch h.edge {
			case Opened:
				needs, breaks = pace.After, func(l Level) bool { return l == Well }
			case Ends:
				needs, breaks = pace.Calm, func(l Level) bool { return l > Well }
			default:
				continue
			}
			for _, l := range looks {
				if !l.at.After(h.at) && h.at.Sub(l.at) < needs && breaks(l.level) {
					t.Fatalf("%s at %s in spite of level %d at %s", h.edge, h.at, l.level, l.at)
				}
			}
		}
	})
}

// What is not known changes nothing.
func TestNotKnowingIsNoNews(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		looks := drawLooks(t)
		known := slices.DeleteFunc(slices.Clone(looks), func(l look) bool { return l.level == Unknown })
		pace := Pace{After: 30 * time.Second, Calm: time.Minute}
		ignore := cmp.Transformer("edges", func(h told) string { return string(h.edge) + h.at.String() })
		if diff := cmp.Diff(life(t, pace, known), life(t, pace, looks), ignore); diff != "" {
			t.Fatal(diff)
		}
	})
}

// A signal that comes and goes for a day makes a handful of messages.
func TestFlappingIsDamped(t *testing.T) {
	pace := Pace{After: 0, Calm: time.Minute}
	var looks []look
	for at := start; at.Before(start.Add(24 * time.Hour)); at = at.Add(15 * time.Second) {
		level := Well
		if at.Sub(start)%(5*time.Minute) < time.Minute { // bad for one minute in five
			level = Bad
		}
		looks = append(looks, look{at, level})
	}
	// Without damping there would be 288 episodes.
	if heard := life(t, pace, looks); len(heard) > 10 {
		t.Errorf("%d messages: %+v", len(heard), heard)
	}
}

func TestAnEpisodeThatIsNotWatchedAnyMoreEnds(t *testing.T) {
	e, edge := Step(nil, Observation{Rule: Budget, Subject: "b", Level: 8000}, Pace{}, start)
	if edge != Opened {
		t.Fatal(edge)
	}
	over, edge := Abandon(e, start.Add(time.Hour))
	if edge != Ends || over.State != Ended || over.Lasted() != time.Hour {
		t.Errorf("%s %+v", edge, over)
	}
	pending, _ := Step(nil, Observation{Level: Bad}, Pace{After: time.Minute}, start)
	if gone, edge := Abandon(pending, start); gone != nil || edge != None {
		t.Errorf("%+v %s", gone, edge)
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		42 * time.Second: "42s", 5 * time.Minute: "5m", time.Hour + 2*time.Minute: "1h2m", 2 * time.Hour: "2h", 10 * time.Minute: "10m",
		time.Hour + time.Second: "1h0m1s", 0: "0s", 20 * time.Second: "20s",
	} {
		if got := Span(d); got != want {
			t.Errorf("%d: %s, want %s", d, got, want)
		}
	}
}
