-- Alerts: what is told, to whom, and what it is judged by.

-- +goose Up

-- One time that something was not well; see package alert.
CREATE TABLE alert_episodes (
    id         TEXT PRIMARY KEY,
    rule       TEXT NOT NULL,
    subject    TEXT NOT NULL,
    state      TEXT NOT NULL,   -- pending, open, ended
    level      BIGINT NOT NULL,
    bar        DOUBLE PRECISION NOT NULL,
    since      BIGINT NOT NULL,
    opened_at  BIGINT NOT NULL, -- 0: not yet
    calm_since BIGINT NOT NULL, -- 0: not calm
    ended_at   BIGINT NOT NULL, -- 0: not ended
    returns    BIGINT NOT NULL,
    report     TEXT NOT NULL,   -- JSON
    version    BIGINT NOT NULL  -- raised by every change: of two that replicas make, the second finds it moved
);

-- Of two replicas that begin an episode of one subject, the second finds the first one's.
CREATE UNIQUE INDEX alert_episodes_live ON alert_episodes (rule, subject) WHERE state <> 'ended';
CREATE INDEX alert_episodes_ended ON alert_episodes (ended_at);

-- The outbox: a message for a receiver is written with the change of the episode that it tells of.
CREATE TABLE alert_deliveries (
    id         TEXT PRIMARY KEY, -- from the episode, its edge and the receiver: nobody is told the same twice
    episode    TEXT NOT NULL,
    receiver   TEXT NOT NULL,
    message    TEXT NOT NULL,    -- JSON
    state      TEXT NOT NULL,    -- waiting, delivered, failed
    place      BIGINT NOT NULL,  -- messages of an episode go to a receiver in this order
    created_at BIGINT NOT NULL,
    next_at    BIGINT NOT NULL,  -- not to be tried before; who tries moves it, so that nobody else does
    tries      BIGINT NOT NULL,
    done_at    BIGINT NOT NULL,  -- 0: it waits
    error      TEXT NOT NULL     -- of the last try
);

CREATE INDEX alert_deliveries_waiting ON alert_deliveries (next_at) WHERE state = 'waiting';
CREATE INDEX alert_deliveries_by_episode ON alert_deliveries (episode, receiver);

-- Requests by the minute, for a day: what is usual.
CREATE TABLE alert_tallies (
    minute      BIGINT NOT NULL, -- since the epoch
    scope       TEXT NOT NULL,   -- all, model, route
    name        TEXT NOT NULL,
    requests    BIGINT NOT NULL,
    failures    BIGINT NOT NULL,
    failed_over BIGINT NOT NULL,
    extra       BIGINT NOT NULL, -- nano-dollars
    usual       BIGINT NOT NULL,
    PRIMARY KEY (minute, scope, name)
);

-- What each replica knows of providers and models.
CREATE TABLE alert_replicas (
    replica  TEXT PRIMARY KEY,
    seen_at  BIGINT NOT NULL,
    document TEXT NOT NULL -- JSON
);
