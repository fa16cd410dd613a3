-- +goose Up

ALTER TABLE accounts ADD COLUMN unit           TEXT    NOT NULL DEFAULT '';
ALTER TABLE accounts ADD COLUMN wrong_on       TEXT    NOT NULL DEFAULT '';
ALTER TABLE accounts ADD COLUMN wrong_that_day INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN seen           TEXT    NOT NULL DEFAULT ''; -- JSON array of {at, source}; '' for none
