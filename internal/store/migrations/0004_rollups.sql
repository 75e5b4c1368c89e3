-- Records live in tables of one day each, which days.go makes and retention.go drops: usage_records_20261122,
-- usage_contents_20261122 and usage_hours_20261122. The program of the version before goes on writing to
-- usage_records and usage_contents; what it leaves there is carried over by adopt.go.

-- +goose Up

-- The days that have tables.
CREATE TABLE usage_partitions (
    day BIGINT PRIMARY KEY -- since the epoch, in UTC
);

-- What sums are kept apart by. The id is a hash of everything else, so that it is the same on all replicas.
CREATE TABLE usage_series (
    id           BIGINT PRIMARY KEY,
    organization TEXT NOT NULL,
    project      TEXT NOT NULL,
    key_id       TEXT NOT NULL,
    endpoint     TEXT NOT NULL,
    route        TEXT NOT NULL,
    model        TEXT NOT NULL,
    provider     TEXT NOT NULL,
    deployment   TEXT NOT NULL,
    provider_key TEXT NOT NULL,
    status       BIGINT NOT NULL,
    drill        TEXT NOT NULL
);

-- The labels that the project had when the request came.
CREATE TABLE usage_series_labels (
    series BIGINT NOT NULL,
    name   TEXT NOT NULL,
    value  TEXT NOT NULL,
    PRIMARY KEY (series, name)
);

-- The sums of a day; those of an hour are in the tables of its day. They stay when the records go.
CREATE TABLE usage_days (
    at                BIGINT NOT NULL, -- days since the epoch, in UTC
    series            BIGINT NOT NULL,
    requests          BIGINT NOT NULL,
    failures          BIGINT NOT NULL,
    canceled          BIGINT NOT NULL,
    failed_over       BIGINT NOT NULL,
    estimated         BIGINT NOT NULL,
    prompt_tokens     BIGINT NOT NULL,
    cached_tokens     BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL,
    reasoning_tokens  BIGINT NOT NULL,
    cost              BIGINT NOT NULL,
    duration          BIGINT NOT NULL,
    first_token       BIGINT NOT NULL,
    first_tokens      BIGINT NOT NULL, -- how many had one
    PRIMARY KEY (at, series)
);

-- The prompts of a day that cost most. They are gone with the records of their day.
CREATE TABLE usage_prompts (
    day               BIGINT NOT NULL,
    prompt            BIGINT NOT NULL, -- fingerprint
    organization      TEXT NOT NULL,
    project           TEXT NOT NULL,
    model             TEXT NOT NULL,
    requests          BIGINT NOT NULL,
    prompt_tokens     BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL,
    cost              BIGINT NOT NULL,
    example           TEXT NOT NULL, -- id of one of the records
    PRIMARY KEY (day, prompt, organization, project, model)
);

-- When work that one replica does for all was last begun.
CREATE TABLE job_turns (
    job      TEXT PRIMARY KEY,
    taken_at BIGINT NOT NULL
);
