package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"shareai/internal/fault"
)

// prefix is what every key and channel of ours in Redis begins with.
const prefix = "shareai:"

// signalsChannel carries the topics of all signals. One channel, and so one connection for each replica:
// signals are few, and whoever waits for a topic waits within a process.
const signalsChannel = prefix + "signals"

// How long Redis may take.
const (
	redisTimeout    = time.Second            // for anything that somebody waits for
	redisQuiet      = 3 * time.Second        // without a message before the connection is probed
	redisMinBackoff = 100 * time.Millisecond // before a lost connection is tried again
	redisMaxBackoff = 2 * time.Second
)

// Redis is state that many replicas share, in Redis or Valkey.
type Redis struct {
	client *redis.Client
	log    *slog.Logger
	local  subscribers
	ready  chan struct{}   // closed when signals arrive for the first time
	life   context.Context // of everything in the background
	stop   context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	closing bool
	copies  sync.WaitGroup // of answers
}

// NewRedis returns the state in the Redis of a URL such as redis://user:password@host:6379/0. It does
// not wait for a connection: it makes one in the background, and again whenever it is lost, until
// Close. The values of ctx are used, its end is not.
func NewRedis(ctx context.Context, url string, log *slog.Logger) (*Redis, error) {
	options, err := redis.ParseURL(url)
	if err != nil { // its text may quote the URL, and with it a password
		return nil, fault.New(fault.Invalid, "invalid_redis",
			"redis is not a valid URL; it looks like redis://user:password@host:6379/0, with rediss:// for TLS.")
	}
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout = redisTimeout, redisTimeout, redisTimeout
	options.ContextTimeoutEnabled = true
	options.MaxRetries, options.DialerRetries = -1, 1 // whoever publishes does not wait for a second try
	options.DisableIdentity = true
	logging.Disable() // it writes to the standard error; what matters is logged here

	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	r := &Redis{client: redis.NewClient(options), log: log, ready: make(chan struct{}), life: ctx, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.listen(ctx)
	}()
	return r, nil
}

// begin runs f in the background until Close; false after that.
func (r *Redis) begin(f func(context.Context)) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closing {
		return false
	}
	r.copies.Go(func() { f(r.life) })
	return true
}

// Close ends the connections. Answers that have ended are still copied, within a second. The channels of
// subscriptions stay open and receive nothing more.
func (r *Redis) Close() error {
	r.mu.Lock()
	r.closing = true
	r.mu.Unlock()
	copied := make(chan struct{})
	go func() {
		r.copies.Wait()
		close(copied)
	}()
	select {
	case <-copied:
	case <-time.After(redisTimeout):
	}
	r.stop()
	<-copied
	<-r.done
	if err := r.client.Close(); !errors.Is(err, redis.ErrClosed) {
		return err
	}
	return nil
}

// Ping says whether Redis answers.
func (r *Redis) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	return away("reach", r.client.Ping(ctx).Err())
}

// Publish implements Signals.
func (r *Redis) Publish(ctx context.Context, topic string) error {
	r.local.wake(topic)
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	return away("signal "+topic+" to", r.client.Publish(ctx, signalsChannel, topic).Err())
}

// Subscribe implements Signals. It waits a second at most for the first connection.
func (r *Redis) Subscribe(ctx context.Context, topic string) (<-chan struct{}, func(), error) {
	patience := time.NewTimer(redisTimeout)
	defer patience.Stop()
	select {
	case <-r.ready:
	case <-patience.C: // when the connection comes about, everyone is woken
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	wake, end := r.local.add(ctx, topic)
	return wake, end, nil
}

// listen passes the signals of Redis on until ctx ends.
func (r *Redis) listen(ctx context.Context) {
	for lost, wait := false, redisMinBackoff; ; wait = min(2*wait, redisMaxBackoff) {
		err := r.receive(ctx, func() {
			if lost {
				r.log.InfoContext(ctx, "the connection to Redis is restored")
			}
			lost, wait = false, redisMinBackoff
			r.local.wakeAll() // signals may have been missed
			select {
			case <-r.ready:
			default:
				close(r.ready)
			}
		})
		if ctx.Err() != nil {
			return
		}
		if !lost {
			lost = true
			r.log.WarnContext(ctx, "Redis does not answer; changes made on other replicas arrive later", "error", fault.Redact(err.Error()))
		}
		select {
		case <-time.After(wait/2 + rand.N(wait/2)): // replicas that lost it together do not return together
		case <-ctx.Done():
			return
		}
	}
}

// receive subscribes over a new connection, calls subscribed, and passes signals on until the connection
// fails. A connection that is quiet is probed: nothing else would tell that the other end is gone.
func (r *Redis) receive(ctx context.Context, subscribed func()) error {
	feed := r.client.Subscribe(ctx) // to nothing yet, so that its errors are seen
	defer func() { _ = feed.Close() }()
	defer context.AfterFunc(ctx, func() { _ = feed.Close() })()
	first, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	if err := feed.Subscribe(first, signalsChannel); err != nil {
		return err
	}
	for wait := redisQuiet; ; {
		message, err := feed.ReceiveTimeout(ctx, wait)
		var network net.Error
		switch {
		case err == nil:
			wait = redisQuiet
		case errors.As(err, &network) && network.Timeout() && wait == redisQuiet:
			if err := feed.Ping(ctx); err != nil {
				return err
			}
			wait = redisTimeout
			continue
		default:
			return err
		}
		switch m := message.(type) {
		case *redis.Subscription:
			subscribed()
		case *redis.Message:
			r.local.wake(m.Payload)
		}
	}
}

// away wraps an error of Redis for whoever reads it.
func away(doing string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return fault.New(fault.Unavailable, "redis_unavailable",
		"Redis does not answer. Check that it runs and can be reached.").Because(fmt.Errorf("%s Redis: %w", doing, err))
}
