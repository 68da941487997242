-- A lane is the queue of one conversation. Work is leased per lane, never per message.
--
-- due_at is the one time from which anyone may take the lane: when its first message may be answered, or, while it is
-- leased, when the lease runs out. It is NULL while nothing waits, so the index of what can be claimed holds busy lanes
-- only, and neither an append to a busy lane nor the bookkeeping columns touch an index.
CREATE TABLE {schema}.lanes (
    lane_id      uuid        PRIMARY KEY,
    tenant_id    text        NOT NULL,
    next_seq     bigint      NOT NULL,            -- the sequence that the next message gets; the first is 1
    done_seq     bigint      NOT NULL DEFAULT 0,  -- the last sequence that is done
    pending      integer     NOT NULL,            -- next_seq - 1 - done_seq
    due_at       timestamptz,
    fence        bigint      NOT NULL DEFAULT 0,  -- grows with every lease
    holder       text        NOT NULL DEFAULT '', -- who has the lease, for people
    lease_until  timestamptz,                     -- NULL: not leased
    attempts     integer     NOT NULL DEFAULT 0,
    data_version bigint      NOT NULL DEFAULT 0,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT lanes_counts CHECK (pending >= 0 AND next_seq = done_seq + pending + 1),
    CONSTRAINT lanes_due CHECK ((pending > 0) = (due_at IS NOT NULL)),
    CONSTRAINT lanes_leased CHECK (lease_until IS NULL OR due_at = lease_until)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

CREATE INDEX lanes_claimable ON {schema}.lanes (due_at) WHERE due_at IS NOT NULL;
