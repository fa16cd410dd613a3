-- +goose Up

-- What all processes must have in common and none can see at the others, such
-- as (not the pepper itself but) something made with the pepper of password
-- fingerprints. The first that comes writes it down.
CREATE TABLE agreed (
    what  text COLLATE "C" PRIMARY KEY,
    value text NOT NULL
);
