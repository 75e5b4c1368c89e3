-- More kinds of tokens in the sums. The sums by the hour are in the tables of their days, which days.go makes with them
-- and widens when something is added to a day that has none; layout says which tables do. The program of the version
-- before goes on adding to all of them.

-- +goose Up

ALTER TABLE usage_days ADD COLUMN cache_write_tokens BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_days ADD COLUMN cache_write_1h_tokens BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_days ADD COLUMN audio_input_tokens BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_days ADD COLUMN audio_output_tokens BIGINT NOT NULL DEFAULT 0;

ALTER TABLE usage_partitions ADD COLUMN layout BIGINT NOT NULL DEFAULT 1;
