package health

import (
	"sync"
	"time"
)

// How long a key is out of use; doc.go says why.
const (
	firstRejection   = 30 * time.Second
	longestRejection = 10 * time.Minute
	usualLimit       = 5 * time.Second
)

// Key is the health of one provider key.
type Key struct {
	clock clock

	mu       sync.Mutex
	until    moment        // out of use until then
	rejected time.Duration // how long the last rejection in a row put it out; 0: none
	used     moment
}

// Usable says whether the key may be used now.
func (k *Key) Usable() bool { return k.Until().IsZero() }

// Until is the moment at which the key may be used again; zero when it may be used.
func (k *Key) Until() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.until <= k.clock.now() {
		return time.Time{}
	}
	return k.clock.time(k.until)
}

// Reject takes the key out of use for a time that grows with every rejection in a row.
func (k *Key) Reject() {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.clock.now()
	if k.rejected > 0 && now < k.until {
		return // sent before the rejection that is known already
	}
	k.rejected = min(max(2*k.rejected, firstRejection), longestRejection)
	k.out(now, k.rejected)
}

// Limit takes the key out of use until a provider's limit is over; 0: the provider did not say.
func (k *Key) Limit(wait time.Duration) {
	if wait <= 0 {
		wait = usualLimit
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.out(k.clock.now(), min(wait, longestHold))
}

// Accept notes that the key was good.
func (k *Key) Accept() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.rejected, k.used = 0, k.clock.now()
}

func (k *Key) out(now moment, wait time.Duration) {
	k.until, k.used = max(k.until, now+wait), now
}

func (k *Key) idleSince() moment {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.used
}
