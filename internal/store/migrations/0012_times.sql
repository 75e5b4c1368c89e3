-- How long the requests of a day took: a histogram for each series, see times.go. Those of an hour are in the tables of
-- its day.

-- +goose Up

CREATE TABLE usage_day_times (
    at     BIGINT NOT NULL, -- days since the epoch, in UTC
    series BIGINT NOT NULL,
    times  BYTEA NOT NULL,
    PRIMARY KEY (at, series)
);
