-- +goose Up

-- One row: the last event that was removed because of its age, from which the
-- chain goes on. It moves before events go; an event of kind audit.pruned has told
-- of it.
CREATE TABLE removed (
    one  INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    seq  INTEGER NOT NULL,
    hash TEXT    NOT NULL,
    at   INTEGER
) STRICT;
INSERT INTO removed VALUES (1, 0, '', NULL);

-- The audit log is append-only, but for what was removed.
DROP TRIGGER events_stay;
-- +goose StatementBegin
CREATE TRIGGER events_stay BEFORE DELETE ON events WHEN old.seq > (SELECT seq FROM removed) BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
-- +goose StatementEnd
