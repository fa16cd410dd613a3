-- +goose Up

-- What a later process must have in common with an earlier one, such as (not the
-- pepper of password fingerprints itself but) something made with it. The first
-- start writes it down. An empty value: there is one, and it was not noted yet.
CREATE TABLE agreed (
    what  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
INSERT INTO agreed SELECT 'pepper', '' WHERE EXISTS (SELECT 1 FROM accounts WHERE password IS NOT NULL);
