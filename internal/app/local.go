package app

import (
	"context"
	"errors"

	"shareai/internal/config"
	"shareai/internal/control"
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

	stop func() error // what replicas share
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
	return &Local{
		File:  file,
		Store: rows,
		Control: control.New(control.Options{
			Rows: rows, File: func() snapshot.Spec { return file.Spec }, Signals: shared.signals, Logger: log,
			Actor: localUser(), Nodes: rows, Log: rows,
		}),
		stop: shared.close,
	}, nil
}

// Close releases the database. It may be called more than once.
func (l *Local) Close() error { return errors.Join(l.stop(), l.Store.Close()) }
