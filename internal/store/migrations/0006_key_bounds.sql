-- Limits and budgets of API keys.

-- +goose Up

ALTER TABLE api_keys ADD COLUMN document TEXT NOT NULL DEFAULT '{}'; -- limits, budgets
