-- What nodes served for other organizations, and who owes whom for it.

-- +goose Up

-- Whose a handle is: for good, so that what arrives late is credited to whoever served it.
CREATE TABLE community_handles (
    handle       TEXT PRIMARY KEY,
    node         TEXT NOT NULL UNIQUE,
    organization TEXT NOT NULL,
    fee          BIGINT NOT NULL -- the operator's part, in millionths
);

-- Each has two entries, whose sum is zero. Its id is made of that of the usage record: it is posted once.
CREATE TABLE community_transfers (
    id                TEXT PRIMARY KEY,
    at                BIGINT NOT NULL,
    kind              TEXT NOT NULL, -- served, fee
    handle            TEXT NOT NULL,
    model             TEXT NOT NULL,
    requests          BIGINT NOT NULL,
    prompt_tokens     BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL
);

CREATE TABLE community_entries (
    transfer TEXT NOT NULL REFERENCES community_transfers (id),
    account  TEXT NOT NULL,
    at       BIGINT NOT NULL, -- as the transfer's
    amount   BIGINT NOT NULL, -- nano-dollars; negative: the account owes it
    PRIMARY KEY (transfer, account)
);

CREATE INDEX community_entries_by_account ON community_entries (account, at);

-- How nodes served others, by the day.
CREATE TABLE community_days (
    day               BIGINT NOT NULL, -- days since the epoch, in UTC
    handle            TEXT NOT NULL,
    served            BIGINT NOT NULL,
    failed            BIGINT NOT NULL,
    prompt_tokens     BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL,
    PRIMARY KEY (day, handle)
);
