-- +goose Up

-- One row: the last event that was removed because of its age, from which the
-- chain goes on. It moves before events go; an event of kind audit.pruned has told
-- of it.
CREATE TABLE removed (
    one  boolean PRIMARY KEY CHECK (one),
    seq  bigint  NOT NULL,
    hash text    NOT NULL,
    at   timestamptz
) WITH (fillfactor = 10);
INSERT INTO removed VALUES (true, 0, '', NULL);

-- The audit log is append-only, but for what was removed.
DROP TRIGGER events_stay ON events;
CREATE TRIGGER events_stay BEFORE UPDATE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION events_stay();
-- +goose StatementBegin
CREATE FUNCTION events_stay_until_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM gone WHERE seq > (SELECT seq FROM removed)) THEN
        RAISE EXCEPTION 'the audit log is append-only';
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER events_stay_until_removed AFTER DELETE ON events REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION events_stay_until_removed();
