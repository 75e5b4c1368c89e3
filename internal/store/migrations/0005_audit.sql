-- The log of administrative acts. The triggers that make it append-only differ by engine: see audit_guard.go.

-- +goose Up

CREATE TABLE audit_entries (
    sequence BIGINT PRIMARY KEY, -- from 1, without a gap
    at       BIGINT NOT NULL,
    body     TEXT NOT NULL, -- JSON, byte for byte as it was hashed; it names the hash of the entry before
    hash     TEXT NOT NULL  -- hexadecimal SHA-256 of body
);

-- The end of the chain. Who appends holds this row, so that the chain can not fork, and the last entries can
-- not go missing unseen.
CREATE TABLE audit_head (
    only_row SMALLINT PRIMARY KEY CHECK (only_row = 1),
    entries  BIGINT NOT NULL,
    hash     TEXT NOT NULL
);
INSERT INTO audit_head (only_row, entries, hash) VALUES (1, 0, '');
