-- +goose Up

-- Times are microseconds since 1970 in UTC; NULL is never.

CREATE TABLE accounts (
    name            TEXT    NOT NULL PRIMARY KEY,
    registered      INTEGER,           -- NULL: a name nobody has ever logged in with
    first_login     INTEGER,
    last_login      INTEGER,
    failures        INTEGER NOT NULL,
    mistakes        TEXT    NOT NULL,  -- JSON array of {at, source}; '' for none
    stale_at        INTEGER,
    stale_source    TEXT    NOT NULL,
    lock_cause      TEXT    NOT NULL,  -- '' while not locked
    locked_at       INTEGER,
    locked_by       TEXT    NOT NULL,
    lock_reason     TEXT    NOT NULL,
    revoked_at      INTEGER,
    revoked_by      TEXT    NOT NULL,
    revoked_reason  TEXT    NOT NULL,
    restored        INTEGER,
    password_salt   BLOB,
    password        BLOB,              -- fingerprints: see auth/password
    password_before BLOB,
    password_since  INTEGER,
    grace_until     INTEGER,
    alerted_on      TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX accounts_unknown ON accounts (registered) WHERE registered IS NULL;
CREATE INDEX accounts_locked  ON accounts (name) WHERE lock_cause <> '';
CREATE INDEX accounts_revoked ON accounts (name) WHERE revoked_at IS NOT NULL;

CREATE TABLE events (
    seq     INTEGER NOT NULL PRIMARY KEY,
    at      INTEGER,
    kind    TEXT    NOT NULL,
    account TEXT    NOT NULL,
    actor   TEXT    NOT NULL,
    source  TEXT    NOT NULL,
    was     TEXT    NOT NULL,
    became  TEXT    NOT NULL,
    reason  TEXT    NOT NULL,
    hash    TEXT    NOT NULL
) STRICT;

CREATE INDEX events_account ON events (account, seq);

-- The audit log is append-only. Whoever can write the file can drop these; the
-- chain of hashes then tells.
-- +goose StatementBegin
CREATE TRIGGER events_stay BEFORE DELETE ON events BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER events_stay_as_they_are BEFORE UPDATE ON events BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
-- +goose StatementEnd

-- One row: the newest event, so that events missing at the end are noticed, and
-- how many transactions there have been, which tells whether one in doubt was made.
CREATE TABLE head (
    one     INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    seq     INTEGER NOT NULL,
    hash    TEXT    NOT NULL,
    commits INTEGER NOT NULL
) STRICT;
INSERT INTO head VALUES (1, 0, '', 0);

-- Written to find out whether a disk that was full has room again.
CREATE TABLE probe (
    one    INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    filler BLOB    NOT NULL
) STRICT;

-- "cong": this file belongs to congthu.
PRAGMA application_id = 1668247143;
