-- +goose Up

-- Whoever changes accounts raises this first, and so waits for whoever is at it: rules about several rows, such as
-- that an organization keeps an owner, hold then.
CREATE TABLE account_writes (
    only_row SMALLINT PRIMARY KEY CHECK (only_row = 1),
    value    BIGINT NOT NULL
);
INSERT INTO account_writes (only_row, value) VALUES (1, 0);

CREATE TABLE users (
    id            TEXT PRIMARY KEY,
    email         TEXT NOT NULL UNIQUE, -- in lower case
    name          TEXT NOT NULL,
    password      TEXT NOT NULL, -- hash with its parameters; empty: none
    totp          BYTEA NOT NULL, -- sealed; empty: none
    second_factor BOOLEAN NOT NULL, -- totp is confirmed and asked for
    totp_step     BIGINT NOT NULL, -- the last one that was used
    recovery      TEXT NOT NULL, -- JSON list of hashes
    created_at    BIGINT NOT NULL,
    signed_in_at  BIGINT NOT NULL, -- 0: never
    disabled_at   BIGINT NOT NULL, -- 0: not disabled
    version       BIGINT NOT NULL
);

-- Who a user is at an OpenID provider.
CREATE TABLE user_subjects (
    issuer  TEXT NOT NULL,
    subject TEXT NOT NULL,
    user_id TEXT NOT NULL,
    PRIMARY KEY (issuer, subject)
);
CREATE INDEX user_subjects_user ON user_subjects (user_id);

-- Without foreign keys: an organization may be declared in the configuration file.
CREATE TABLE memberships (
    user_id      TEXT NOT NULL,
    organization TEXT NOT NULL,
    role         TEXT NOT NULL,
    since        BIGINT NOT NULL,
    PRIMARY KEY (user_id, organization)
);
CREATE INDEX memberships_organization ON memberships (organization);

CREATE TABLE sessions (
    id         TEXT PRIMARY KEY,
    hash       BYTEA NOT NULL UNIQUE, -- SHA-256; the token itself is kept nowhere
    user_id    TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    method     TEXT NOT NULL,
    address    TEXT NOT NULL,
    client     TEXT NOT NULL
);
CREATE INDEX sessions_user ON sessions (user_id);

-- Links that work once: set-up, invitations, password resets.
CREATE TABLE tickets (
    hash         BYTEA PRIMARY KEY, -- SHA-256 of what is in the link
    id           TEXT NOT NULL,
    kind         TEXT NOT NULL,
    user_id      TEXT NOT NULL,
    organization TEXT NOT NULL,
    role         TEXT NOT NULL,
    email        TEXT NOT NULL,
    made_by      TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL -- 0: never
);
