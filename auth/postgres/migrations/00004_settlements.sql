-- +goose Up

-- The receipts of reservations that were settled, kept for a day. That a reservation
-- is gone is none: it may have been lost with the server that had it. Older gateways
-- do not know this table, and settle only what they have taken themselves.
CREATE TABLE settlements (
    id bigint      PRIMARY KEY,             -- of the reservation
    at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX settlements_at ON settlements (at);
