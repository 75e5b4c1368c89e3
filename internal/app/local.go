package app

import (
	"cmp"
	"context"
	"errors"

	"shareai/internal/account"
	"shareai/internal/config"
	"shareai/internal/control"
	"shareai/internal/identity"
	"shareai/internal/snapshot"
	"shareai/internal/store"
	"shareai/internal/telemetry"
)

// Local is what commands work with that read or change the data of a gateway on this machine, whether
// it is running or not.
type Local struct {
	File    *config.File
	Store   *store.Store
	Control *control.Control
	People  *identity.Identity

	console string       // where people reach the console
	stop    func() error // what replicas share
}

// OpenLocal opens the database that a gateway with the same settings uses.
func OpenLocal(ctx context.Context, s Settings) (*Local, error) {
	s = s.withDefaults()
	log, err := telemetry.NewLogger(s.Stderr, telemetry.Format(s.Log.Format), s.Log.Level)
	if err != nil {
		return nil, err
	}
	file, err := config.Load(s.ConfigFile, s.Getenv)
	if err != nil {
		return nil, err
	}
	boot := s.over(file.Boot)
	if err := prepareDir(boot.DataDir); err != nil {
		return nil, err
	}
	rows, err := openStore(ctx, boot, log)
	if err != nil {
		return nil, err
	}
	shared, err := openShared(ctx, boot, log)
	if err != nil {
		return nil, errors.Join(err, rows.Close())
	}
	l := &Local{
		File:  file,
		Store: rows,
		Control: control.New(control.Options{
			Rows: rows, File: func() snapshot.Spec { return file.Spec }, Signals: shared.signals, Logger: log,
			Actor: localUser(), Nodes: rows, Log: rows,
		}),
		console: "http://" + nearby(cmp.Or(boot.AdminListen, boot.Listen)),
		stop:    shared.close,
	}
	people := identityOptions(boot, rows, l.Control)
	people.Actor, people.Logger = localUser(), log
	l.People = identity.New(people)
	return l, nil
}

// Link is a link of People with the address of the console before it.
func (l *Local) Link(link account.Secret) string {
	if l.People.PublicURL() != "" {
		return link.Reveal()
	}
	return l.console + link.Reveal()
}

// Close releases the database. It may be called more than once.
func (l *Local) Close() error { return errors.Join(l.stop(), l.Store.Close()) }
