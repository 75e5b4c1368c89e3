package control_test

import (
	"fmt"
	"testing"
	"time"

	"shareai/internal/control"
)

func TestPaces(t *testing.T) {
	t.Parallel()
	p := control.NewPaces(3, time.Second)
	at := now
	take := func(who string) time.Duration { return p.Take(who, at) }
	for range 3 {
		if wait := take("ann"); wait != 0 {
			t.Fatalf("wait %s", wait)
		}
	}
	if wait := take("ann"); wait != time.Second {
		t.Errorf("the fourth at once waits %s", wait)
	}
	if wait := take("bob"); wait != 0 {
		t.Errorf("another waits %s", wait)
	}
	at = at.Add(1500 * time.Millisecond)
	if first, second := take("ann"), take("ann"); first != 0 || second != 500*time.Millisecond {
		t.Errorf("later: %s and %s", first, second)
	}
	at = at.Add(time.Hour)
	allowed := 0
	for range 10 {
		if take("ann") == 0 {
			allowed++
		}
	}
	if allowed != 3 {
		t.Errorf("%d at once after a long time", allowed)
	}
}

// Somebody with very many addresses can not use up the memory; those who come then share what is left.
func TestPacesAreBounded(t *testing.T) {
	t.Parallel()
	p := control.NewPaces(3, time.Second)
	refused := 0
	for i := range 10_000 {
		if p.Take(fmt.Sprint("address ", i), now) != 0 {
			refused++
		}
	}
	if want := 10_000 - 4096 - 3; refused != want {
		t.Errorf("%d refused, want %d", refused, want)
	}
	if wait := p.Take("somebody new", now.Add(time.Minute)); wait != 0 {
		t.Errorf("when it is over: %s", wait)
	}
}
