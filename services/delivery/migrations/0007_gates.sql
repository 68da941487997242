-- Channels to which no calls go out for now, as all processes know it: they failed one after the other (`open_until`,
-- after which one call finds out), or the provider asked for a pause. A channel without a row is well.
CREATE TABLE delivery.gates (
    channel_key  integer     PRIMARY KEY,
    open_until   timestamptz,                        -- NULL: its breaker is closed
    openings     integer     NOT NULL DEFAULT 0,     -- in a row
    paused_until timestamptz,                        -- NULL: no pause
    pauses       integer     NOT NULL DEFAULT 0,     -- in a row
    changed_at   timestamptz NOT NULL DEFAULT now()
);
