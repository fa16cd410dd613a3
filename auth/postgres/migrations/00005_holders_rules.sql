-- +goose Up

-- By which settings a process works: a name for them, NULL for one that has not said
-- so, since it is starting or of an older version. See agreed.
ALTER TABLE holders ADD COLUMN rules text;

-- The lease of the process in microseconds: nobody takes it for dead earlier. NULL: of
-- an older version.
ALTER TABLE holders ADD COLUMN lease bigint;
