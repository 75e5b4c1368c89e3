package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"

	"shareai/internal/cluster"
	"shareai/internal/config"
	"shareai/internal/fault"
	"shareai/internal/store"
)

// prepareDir makes the data directory and checks that it can be written.
func prepareDir(dir string) error {
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		var probe *os.File
		if probe, err = os.CreateTemp(dir, ".writable-*"); err == nil {
			_ = probe.Close()
			err = os.Remove(probe.Name())
		}
	}
	if err == nil {
		return nil
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err // the directory is named already
	}
	return fmt.Errorf("the data directory %s can not be written (%w): make it writable for this user, or choose another with --data-dir", dir, err)
}

// listeners accept connections for the API and, where that is set, for administration.
type listeners struct {
	api, admin net.Listener // admin may be nil
}

func listen(ctx context.Context, boot config.Boot) (listeners, error) {
	var l listeners
	var err error
	if l.api, err = listenAt(ctx, boot.Listen, "--listen"); err != nil {
		return listeners{}, err
	}
	if boot.AdminListen == "" {
		return l, nil
	}
	if l.admin, err = listenAt(ctx, boot.AdminListen, "--admin-listen"); err != nil {
		_ = l.close()
		return listeners{}, err
	}
	return l, nil
}

// listenAt listens on host:port. flag is how to choose another.
func listenAt(ctx context.Context, address, flag string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err == nil {
		return l, nil
	}
	var unknown *net.DNSError
	var malformed *net.AddrError
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("another program listens on %s: stop it, or choose another address with %s (%w)", address, flag, syscall.EADDRINUSE)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("this user may not listen on %s: choose a port above 1023 with %s (%w)", address, flag, syscall.EACCES)
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.As(err, &unknown), errors.As(err, &malformed):
		return nil, fmt.Errorf("%q is no address of this machine to listen on: use host:port such as 127.0.0.1:8080 or :8080 with %s (%w)", address, flag, err)
	default:
		return nil, fmt.Errorf("can not listen on %s: choose another address with %s (%w)", address, flag, err)
	}
}

func (l listeners) addresses() Addresses {
	a := Addresses{API: l.api.Addr().String()}
	if l.admin != nil {
		a.Admin = l.admin.Addr().String()
	}
	return a
}

// close is harmless when the servers have closed them already.
func (l listeners) close() error {
	_ = l.api.Close()
	if l.admin != nil {
		_ = l.admin.Close()
	}
	return nil
}

// openStore opens the database. What a driver says of it goes over several lines; here it is one, with
// what to do before it.
func openStore(ctx context.Context, boot config.Boot, log *slog.Logger) (*store.Store, error) {
	rows, err := store.Open(ctx, store.Options{
		Database: boot.Database.Reveal(), DataDir: boot.DataDir, SecretsKey: boot.SecretsKey, Logger: log,
	})
	var known *fault.Error
	if errors.As(err, &known) && known.Cause != nil {
		reason := strings.Join(strings.Fields(fault.Redact(known.Cause.Error())), " ")
		return nil, &refusal{text: known.Message + " (" + reason + ")", cause: known.Cause}
	}
	return rows, err
}

// refusal is why a gateway does not start, in one line.
type refusal struct {
	text  string
	cause error
}

func (r *refusal) Error() string { return r.text }
func (r *refusal) Unwrap() error { return r.cause }

// shared is what the replicas of a gateway share beside the database.
type shared struct {
	signals cluster.Signals
	answers cluster.Answers
	meters  cluster.Meters    // nil: this process counts for itself
	seats   cluster.Seats     // nil likewise
	links   cluster.Directory // nil: this process has all links
	nonces  cluster.Once      // nil likewise
	close   func() error
}

// openShared joins the other replicas by Redis, or nobody without one.
func openShared(ctx context.Context, boot config.Boot, log *slog.Logger) (shared, error) {
	if boot.Redis.Empty() {
		return shared{
			signals: &cluster.Memory{},
			answers: cluster.NewMemoryAnswers(cluster.AnswerLimits{}),
			close:   func() error { return nil },
		}, nil
	}
	redis, err := cluster.NewRedis(ctx, boot.Redis.Reveal(), log)
	if err != nil {
		return shared{}, err
	}
	return shared{
		signals: redis, answers: redis.Answers(cluster.AnswerLimits{}), meters: redis.Meters(), seats: redis.Seats(),
		links: redis.Directory(), nonces: redis.Once(), close: redis.Close,
	}, nil
}
