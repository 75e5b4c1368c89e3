-- What reports tell apart once requests fail over: that another than the primary answered, and that it was
-- a rehearsal. Candidates and the rest of a trace are in detail. A program of the version before leaves
-- both columns out, and goes on.

-- +goose Up

ALTER TABLE usage_records ADD COLUMN failed_over BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE usage_records ADD COLUMN drill TEXT NOT NULL DEFAULT ''; -- its id; empty: none
