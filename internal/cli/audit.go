package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"shareai/internal/audit"
)

type auditCommands struct {
	List   auditListCommand   `cmd:"" help:"List what administrators and the configuration file did."`
	Verify auditVerifyCommand `cmd:"" help:"Check that no entry was changed, removed or inserted."`
	Export auditExportCommand `cmd:"" help:"Write the log as JSON Lines, one entry each, with their hashes."`
}

type auditListCommand struct {
	Since moment `placeholder:"WHEN" help:"Only entries from then on: 2026-11-01, 2026-11-01T15:04:05Z, 24h or 7d. Default: all."`
	output
	place `group:"Where the gateway keeps its data:"`
}

// Run lists entries.
func (c *auditListCommand) Run(ctx context.Context, t *terminal) error {
	local, err := c.open(ctx, t)
	if err != nil {
		return err
	}
	defer func() { _ = local.Close() }()
	lines := []json.RawMessage{}
	tb := &table{columns: []column{
		{title: "#", align: right}, {title: "TIME"}, {title: "WHO"}, {title: "FROM"}, {title: "ACT"}, {title: "SUBJECT"},
	}}
	err = local.Store.EachAudit(ctx, c.Since.before(time.Now()), func(r audit.Row) error {
		if c.JSON {
			lines = append(lines, json.RawMessage(r.Line()))
			return nil
		}
		e, err := r.Entry()
		if err != nil {
			return err
		}
		tb.add(strconv.FormatInt(e.Sequence, 10), e.At.Format("2006-01-02 15:04:05 UTC"), shown(actor(e.Who)), shown(e.From), shown(e.Act), shown(e.Subject))
		return nil
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return t.json(map[string][]json.RawMessage{"entries": lines})
	}
	if len(tb.rows) == 0 {
		t.print("No entries.\n")
		return nil
	}
	t.table("", tb)
	return nil
}

// actor is who did something, in one cell.
func actor(w audit.Who) string {
	if w.ID != "" {
		return w.Name + " (" + w.ID + ")"
	}
	return w.Name
}

// shown makes a text harmless for a terminal: who can write the database could put anything there.
func shown(text string) string {
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return '?'
	}, text)
}

type auditVerifyCommand struct {
	Expect notedEntry `placeholder:"NUMBER:HASH" help:"An entry that was noted earlier, as verify prints it; it must still be there."`
	place  `group:"Where the gateway keeps its data:"`
}

// Help is the long help.
func (auditVerifyCommand) Help() string {
	return `Walks along the whole log and says which entry is the first that is not what was written; the exit code is 1
then. Who can write the database can also compute a whole new chain: note what this command prints, elsewhere, and
give it back with --expect to find that out as well.

    shareai audit verify
    shareai audit verify --expect 41:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`
}

// notedEntry is an entry that somebody noted.
type notedEntry audit.Head

// UnmarshalText reads the flag.
func (k *notedEntry) UnmarshalText(text []byte) error {
	number, hash, _ := strings.Cut(string(text), ":")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 1 || len(hash) != 64 {
		return fmt.Errorf("%q has another form than NUMBER:HASH, as verify prints it", string(text))
	}
	*k = notedEntry{Entries: n, Hash: strings.ToLower(hash)}
	return nil
}

// Run verifies the log.
func (c *auditVerifyCommand) Run(ctx context.Context, t *terminal) error {
	local, err := c.open(ctx, t)
	if err != nil {
		return err
	}
	defer func() { _ = local.Close() }()
	head, err := local.Store.VerifyAudit(ctx, audit.Head(c.Expect))
	var broken *audit.Broken
	if errors.As(err, &broken) {
		return &failure{message: broken.Error(), hint: "what stands before it is as it was written; compare the rest with a backup or an export", cause: err}
	}
	if err != nil {
		return err
	}
	if head.Entries == 0 {
		t.print("The audit log is empty.\n")
		return nil
	}
	t.print("The audit log is unbroken: %s.\n", counted(head.Entries))
	t.print("Its end, to be noted elsewhere: %d:%s\n", head.Entries, head.Hash)
	return nil
}

func counted(entries int64) string {
	if entries == 1 {
		return "1 entry"
	}
	return strconv.FormatInt(entries, 10) + " entries"
}

type auditExportCommand struct {
	Since moment `placeholder:"WHEN" help:"Only entries from then on: 2026-11-01, 2026-11-01T15:04:05Z, 24h or 7d. Default: all."`
	place `group:"Where the gateway keeps its data:"`
}

// Run exports entries.
func (c *auditExportCommand) Run(ctx context.Context, t *terminal) error {
	local, err := c.open(ctx, t)
	if err != nil {
		return err
	}
	defer func() { _ = local.Close() }()
	return local.Store.EachAudit(ctx, c.Since.before(time.Now()), func(r audit.Row) error {
		_, err := io.WriteString(t.out, r.Line()) // a full disk must not pass for a whole export
		return err
	})
}
