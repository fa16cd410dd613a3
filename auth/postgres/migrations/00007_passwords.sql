-- +goose Up

-- JSON array of {fingerprint, since, beyond}, the passwords that were accepted in the
-- order in which they were seen first; NULL for none, since gateways of earlier
-- versions make rows without it. They go by password, password_before and
-- password_since, which are written with it; what they write there is completed when
-- a row is read.
ALTER TABLE accounts ADD COLUMN passwords text;
