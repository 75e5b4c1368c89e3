-- SQL that SQLite and PostgreSQL both understand. Times are microseconds since the epoch (UTC), money
-- is nano-dollars, names are identities. Documents are JSON.

-- +goose Up

-- Raised by one in the transaction of every change to a declaration.
CREATE TABLE revision (
    only_row SMALLINT PRIMARY KEY CHECK (only_row = 1),
    value    BIGINT NOT NULL
);
INSERT INTO revision (only_row, value) VALUES (1, 1);

CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE organizations (
    name     TEXT PRIMARY KEY,
    document TEXT NOT NULL -- limits, budgets
);

CREATE TABLE projects (
    organization TEXT NOT NULL,
    name         TEXT NOT NULL,
    document     TEXT NOT NULL, -- labels, limits, budgets
    PRIMARY KEY (organization, name)
);

-- Projects and keys have no foreign keys: what they belong to may be declared in the configuration file.
CREATE TABLE api_keys (
    id           TEXT PRIMARY KEY,
    organization TEXT NOT NULL,
    project      TEXT NOT NULL,
    name         TEXT NOT NULL,
    hash         BYTEA NOT NULL UNIQUE, -- SHA-256; the key itself is kept nowhere
    hint         TEXT NOT NULL,
    models       TEXT NOT NULL, -- JSON list of patterns
    pin_provider TEXT NOT NULL,
    pin_model    TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL, -- 0: never
    revoked_at   BIGINT NOT NULL  -- 0: not revoked
);

CREATE TABLE providers (
    name            TEXT PRIMARY KEY,
    dialect         TEXT NOT NULL,
    base_url        TEXT NOT NULL,
    api_version     TEXT NOT NULL,
    region          TEXT NOT NULL,
    retention       TEXT NOT NULL,
    private_network BOOLEAN NOT NULL,
    output_limit    TEXT NOT NULL,
    simulation      TEXT NOT NULL -- JSON
);

CREATE TABLE provider_keys (
    provider TEXT NOT NULL,
    name     TEXT NOT NULL,
    place    BIGINT NOT NULL, -- order among the provider's keys
    weight   BIGINT NOT NULL,
    sealed   BYTEA NOT NULL, -- see seal.go
    PRIMARY KEY (provider, name)
);

CREATE TABLE models (
    name     TEXT PRIMARY KEY,
    document TEXT NOT NULL
);

CREATE TABLE routes (
    name     TEXT PRIMARY KEY,
    document TEXT NOT NULL
);

CREATE TABLE policies (
    name     TEXT PRIMARY KEY,
    document TEXT NOT NULL
);

-- One row for each request. A column is what reports filter, group or sum by; the rest is in detail,
-- because every column costs time in the one place where rows arrive by the thousand.
CREATE TABLE usage_records (
    id                TEXT PRIMARY KEY, -- rises with time, so that the index grows at its end
    start             BIGINT NOT NULL,
    duration          BIGINT NOT NULL,
    first_token       BIGINT NOT NULL,
    organization      TEXT NOT NULL,
    project           TEXT NOT NULL,
    key_id            TEXT NOT NULL,
    endpoint          TEXT NOT NULL,
    route             TEXT NOT NULL,
    model             TEXT NOT NULL,
    provider          TEXT NOT NULL,
    deployment        TEXT NOT NULL,
    status            BIGINT NOT NULL,
    code              TEXT NOT NULL,
    prompt_tokens     BIGINT NOT NULL,
    cached_tokens     BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL,
    reasoning_tokens  BIGINT NOT NULL,
    estimated         BOOLEAN NOT NULL,
    cost              BIGINT NOT NULL,
    detail            TEXT NOT NULL -- JSON: attempts, bytes, trace and what else a trace shows
);
CREATE INDEX usage_records_start ON usage_records (start);

-- What was said, only where a policy says that it is logged.
CREATE TABLE usage_contents (
    id        TEXT PRIMARY KEY,
    request   BYTEA NOT NULL,
    answer    BYTEA NOT NULL,
    truncated BOOLEAN NOT NULL
);
