package store

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/pressly/goose/v3"

	"shareai/internal/fault"
)

// migrate applies the migrations that the database lacks, each in a transaction of its own. Many
// processes may do so at the same time: one works, the others wait for it.
func migrate(ctx context.Context, e *engine, files fs.FS, log *slog.Logger) error {
	provider, err := goose.NewProvider(e.goose, e.write, files,
		goose.WithSessionLocker(e.locker), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	have, want, err := provider.GetVersions(ctx)
	if err != nil {
		return e.failed("read the version of the database", err)
	}
	if have > want {
		return fault.New(fault.Conflict, "database_newer", fmt.Sprintf(
			"The database has version %d, and this program knows version %d. Start the newer program that migrated it, or restore a backup from before.", have, want))
	}
	if have == want {
		return nil
	}
	if _, err := provider.Up(ctx); err != nil {
		if failed := e.failed("migrate", err); fault.From(failed).Kind == fault.Unavailable {
			return failed
		}
		return fault.New(fault.Internal, "migration_failed", fmt.Sprintf(
			"The database could not be migrated from version %d to %d, and stays at the last version that worked. Nothing was started. Correct the cause and start again, or go on with the program you had.", have, want)).
			Because(err)
	}
	log.InfoContext(ctx, "database migrated", "engine", e.name, "from", have, "to", want)
	return nil
}
