-- Machines of organizations that serve models, and the tokens by which a machine becomes one.

-- +goose Up

CREATE TABLE nodes (
    id           TEXT PRIMARY KEY,
    organization TEXT NOT NULL,
    name         TEXT NOT NULL,
    enrolled_at  BIGINT NOT NULL,
    revoked_at   BIGINT NOT NULL, -- 0: not revoked
    document     TEXT NOT NULL    -- everything else
);

CREATE UNIQUE INDEX nodes_by_name ON nodes (organization, name) WHERE revoked_at = 0;

-- No part of what is declared: using a token and adding its node is one transaction.
CREATE TABLE node_tokens (
    id           TEXT PRIMARY KEY,
    hash         BYTEA NOT NULL UNIQUE, -- SHA-256; the token itself is not kept
    organization TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL,
    revoked_at   BIGINT NOT NULL, -- 0: not revoked
    uses         INTEGER NOT NULL, -- how many machines it is for
    used         INTEGER NOT NULL CHECK (used <= uses),
    used_at      BIGINT NOT NULL, -- the last time; 0: not used
    node         TEXT NOT NULL,   -- that used it last
    document     TEXT NOT NULL    -- name, labels, region, who made it
);
