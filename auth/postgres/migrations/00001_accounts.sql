-- +goose Up

-- Names are compared octet by octet, as everywhere in the gateway. A NULL time
-- is never.

CREATE TABLE accounts (
    name            text COLLATE "C" PRIMARY KEY,
    registered      timestamptz,            -- NULL: a name nobody has ever logged in with
    first_login     timestamptz,
    last_login      timestamptz,
    failures        bigint      NOT NULL,
    mistakes        text        NOT NULL,   -- JSON array of {at, source}; '' for none
    stale_at        timestamptz,
    stale_source    text        NOT NULL,
    lock_cause      text        NOT NULL,   -- '' while not locked
    locked_at       timestamptz,
    locked_by       text        NOT NULL,
    lock_reason     text        NOT NULL,
    revoked_at      timestamptz,
    revoked_by      text        NOT NULL,
    revoked_reason  text        NOT NULL,
    restored        timestamptz,
    password_salt   bytea,
    password        bytea,                  -- fingerprints: see auth/password
    password_before bytea,
    password_since  timestamptz,
    grace_until     timestamptz,
    alerted_on      text        NOT NULL,
    unit            text        NOT NULL,
    wrong_on        text        NOT NULL,
    wrong_that_day  bigint      NOT NULL,
    seen            text        NOT NULL    -- JSON array of {at, source}; '' for none
) WITH (fillfactor = 80);                   -- most changes are of a row that is there

CREATE INDEX accounts_unknown ON accounts (name) WHERE registered IS NULL;
CREATE INDEX accounts_locked  ON accounts (name) WHERE lock_cause <> '';
CREATE INDEX accounts_revoked ON accounts (name) WHERE revoked_at IS NOT NULL;

CREATE TABLE events (
    seq     bigint           PRIMARY KEY,
    at      timestamptz,
    kind    text             NOT NULL,
    account text COLLATE "C" NOT NULL,
    actor   text             NOT NULL,
    source  text             NOT NULL,
    was     text             NOT NULL,
    became  text             NOT NULL,
    reason  text             NOT NULL,
    hash    text             NOT NULL
);

CREATE INDEX events_account ON events (account, seq);

-- The audit log is append-only. The owner of the table can drop this; the chain
-- of hashes then tells.
-- +goose StatementBegin
CREATE FUNCTION events_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only';
END
$$;
-- +goose StatementEnd
CREATE TRIGGER events_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION events_stay();

-- One row: the newest event. Whoever appends holds it until the commit, so that
-- events are committed in the order of their numbers.
CREATE TABLE head (
    one  boolean PRIMARY KEY CHECK (one),
    seq  bigint  NOT NULL,
    hash text    NOT NULL
) WITH (fillfactor = 10);                   -- updated all the time, and in place
INSERT INTO head VALUES (true, 0, '');

-- One row: how many accounts nobody has ever logged in with. Whoever adds one
-- holds it until the commit.
CREATE TABLE counts (
    one     boolean PRIMARY KEY CHECK (one),
    unknown bigint  NOT NULL
) WITH (fillfactor = 10);
INSERT INTO counts VALUES (true, 0);

-- The processes that use this database. Rows of those that died stay for a day,
-- should one be alive after all.
CREATE TABLE holders (
    id    bigint      PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name  text        NOT NULL,             -- host and process, for whoever looks
    beats bigint      NOT NULL DEFAULT 0,
    seen  timestamptz NOT NULL DEFAULT now(),
    gone  timestamptz                       -- it was taken for dead
) WITH (fillfactor = 10);

-- The writers of the processes. commits tells whether a transaction in doubt was
-- made; its row is held by the transaction.
CREATE TABLE lanes (
    id      bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    holder  bigint NOT NULL REFERENCES holders ON DELETE CASCADE,
    commits bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);
CREATE INDEX lanes_holder ON lanes (holder);

-- The slots that are taken. Those of dead holders are not: they have lapsed, and
-- are kept for a while should the holder come back.
CREATE TABLE reservations (
    id      bigint           PRIMARY KEY,
    account text COLLATE "C" NOT NULL,
    holder  bigint           NOT NULL,      -- may be gone
    made    timestamptz      NOT NULL DEFAULT now(),
    lapsed  timestamptz,
    counted boolean          NOT NULL DEFAULT false -- as a failure, when it lapsed
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE INDEX reservations_account ON reservations (account);
CREATE INDEX reservations_holder  ON reservations (holder) WHERE lapsed IS NULL;
CREATE INDEX reservations_lapsed  ON reservations (lapsed) WHERE lapsed IS NOT NULL;
