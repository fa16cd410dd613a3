-- +goose Up

-- JSON array of {fingerprint, since, beyond}, the passwords that were accepted in the
-- order in which they were seen first; NULL for none. What password, password_before
-- and password_since say is completed when a row is read, and written with it.
ALTER TABLE accounts ADD COLUMN passwords TEXT;
