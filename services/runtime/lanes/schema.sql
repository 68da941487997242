-- A lane is the queue of one conversation. Work is leased per lane, never per message.
--
-- due_at is the one time from which anyone may take the lane: when its first item may be worked on; while the lane is
-- leased, when the lease runs out; while it is idle, when the first of its timers is due. It is NULL for a lane that is
-- parked, or idle without a timer, so the indexes of what can be claimed hold few lanes, and neither an append to a busy
-- lane nor the bookkeeping columns touch an index.
CREATE TABLE {schema}.lanes (
    lane_id      uuid        PRIMARY KEY,
    tenant_id    text        NOT NULL,
    next_seq     bigint      NOT NULL,            -- the sequence that the next item gets; the first is 1
    done_seq     bigint      NOT NULL DEFAULT 0,  -- the last sequence that is done
    pending      integer     NOT NULL,            -- next_seq - 1 - done_seq
    due_at       timestamptz,
    fence        bigint      NOT NULL DEFAULT 0,  -- grows with every lease
    holder       text        NOT NULL DEFAULT '', -- who has the lease, for people
    lease_until  timestamptz,                     -- NULL: not leased
    attempts     integer     NOT NULL DEFAULT 0,  -- of its first item, as its workers count them
    data_version bigint      NOT NULL DEFAULT 0,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    share        text        NOT NULL DEFAULT '', -- whose fair share of places it takes, within its tenant
    parked       text,                            -- whom it waits for, with no due time
    losses       smallint    NOT NULL DEFAULT 0,  -- workers in a row that were lost while they had it
    delays       smallint    NOT NULL DEFAULT 0,  -- how often in a row it was put off
    priority     smallint    NOT NULL DEFAULT 0,  -- 0: somebody waits for it; 1: it can wait, as timers and broadcasts
    mode         smallint    NOT NULL DEFAULT 0,  -- how its items are to be treated; the service says what that means
    timer_at     timestamptz,                     -- when the first of its timers is due; NULL: it has none
    timers       text        NOT NULL DEFAULT '', -- its timers, as JSON
    CONSTRAINT lanes_counts CHECK (pending >= 0 AND next_seq = done_seq + pending + 1),
    CONSTRAINT lanes_due CHECK ((parked IS NULL AND (pending > 0 OR timer_at IS NOT NULL)) = (due_at IS NOT NULL)),
    CONSTRAINT lanes_parked CHECK (parked IS NULL OR (pending > 0 AND lease_until IS NULL)),
    CONSTRAINT lanes_leased CHECK (lease_until IS NULL OR due_at = lease_until)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

-- Each has a condition of its own, which a statement must name, so that no plan takes one for the other: with few shares,
-- or analyzed at a moment when nothing was due, both look alike to PostgreSQL, and the wrong one walks over a whole flood.
CREATE INDEX lanes_claimable ON {schema}.lanes (priority, due_at) WHERE due_at < 'infinity';
CREATE INDEX lanes_by_share ON {schema}.lanes (tenant_id, share, due_at) WHERE due_at > '-infinity' AND priority = 0;
CREATE INDEX lanes_patient ON {schema}.lanes (tenant_id, due_at) WHERE isfinite(due_at) AND priority = 1;
CREATE INDEX lanes_parked_for ON {schema}.lanes (tenant_id, parked, lane_id) WHERE parked IS NOT NULL;
