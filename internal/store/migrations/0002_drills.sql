-- Drills, what API keys may do, and what else providers have learnt.

-- +goose Up

CREATE TABLE drills (
    name     TEXT PRIMARY KEY, -- its id
    document TEXT NOT NULL
);

ALTER TABLE api_keys ADD COLUMN scopes TEXT NOT NULL DEFAULT '[]'; -- JSON list; empty: inference only

ALTER TABLE providers ADD COLUMN document TEXT NOT NULL DEFAULT '{}'; -- prefill, drained, probe
