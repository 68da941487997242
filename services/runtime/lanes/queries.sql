-- Every statement takes arrays and locks rows in the order of lane_id (claim: only rows nobody has locked), so two of
-- them never deadlock. Times are the database's; durations are seconds.

-- name: append
-- Adds items. A lane in which something waits keeps its due time, so that a later item neither cuts short nor prolongs a
-- debounce or a delay after a failure, and a parked lane stays parked; but an item for which somebody waits raises its
-- priority.
INSERT INTO {schema}.lanes AS lane (lane_id, tenant_id, next_seq, pending, due_at, share, priority)
SELECT lane_id, tenant_id, 1 + count, count, statement_timestamp() + due_in * interval '1 second', share, priority
FROM unnest($1::uuid[], $2::text[], $3::int[], $4::float8[], $5::text[], $6::smallint[])
    AS new (lane_id, tenant_id, count, due_in, share, priority)
ORDER BY lane_id
ON CONFLICT (lane_id) DO UPDATE SET
    next_seq = lane.next_seq + excluded.pending,
    pending = lane.pending + excluded.pending,
    due_at = CASE WHEN lane.pending = 0 THEN excluded.due_at ELSE lane.due_at END,
    share = CASE WHEN lane.pending = 0 THEN excluded.share ELSE lane.share END,
    priority = CASE WHEN lane.pending = 0 THEN excluded.priority ELSE least(lane.priority, excluded.priority) END,
    updated_at = statement_timestamp()
RETURNING lane_id, next_seq;

-- name: append_leased
-- Does the same, and leases to $7 each idle lane for which $8 gives the seconds of a lease, returning it as a claim would.
-- What waited before has an owner or a due time of its own and keeps it, so nothing older is overtaken. A lane was idle if
-- no more is pending in it now than was added.
INSERT INTO {schema}.lanes AS lane (
    lane_id, tenant_id, next_seq, pending, due_at, share, priority, fence, holder, lease_until
)
SELECT
    lane_id, tenant_id, 1 + count, count, statement_timestamp() + coalesce(ttl, due_in) * interval '1 second', share,
    priority, (ttl IS NOT NULL)::int, CASE WHEN ttl IS NULL THEN '' ELSE $7::text END,
    statement_timestamp() + ttl * interval '1 second'
FROM unnest($1::uuid[], $2::text[], $3::int[], $4::float8[], $5::text[], $6::smallint[], $8::float8[])
    AS new (lane_id, tenant_id, count, due_in, share, priority, ttl)
ORDER BY lane_id
ON CONFLICT (lane_id) DO UPDATE SET
    next_seq = lane.next_seq + excluded.pending,
    pending = lane.pending + excluded.pending,
    due_at = CASE WHEN lane.pending = 0 THEN excluded.due_at ELSE lane.due_at END,
    share = CASE WHEN lane.pending = 0 THEN excluded.share ELSE lane.share END,
    priority = CASE WHEN lane.pending = 0 THEN excluded.priority ELSE least(lane.priority, excluded.priority) END,
    fence = CASE WHEN lane.pending = 0 THEN lane.fence + excluded.fence ELSE lane.fence END,
    holder = CASE WHEN lane.pending = 0 THEN excluded.holder ELSE lane.holder END,
    lease_until = CASE WHEN lane.pending = 0 THEN excluded.lease_until ELSE lane.lease_until END,
    updated_at = statement_timestamp()
RETURNING lane_id, tenant_id, next_seq, fence, pending, done_seq, attempts, data_version, lease_until, false AS expired,
    share, losses, delays, priority, mode, timers;

-- name: claim
-- Takes up to $2 lanes that are due, in turns: first those whose tenant and share hold the fewest places. Lanes that can
-- wait come after all others; only the oldest of them, once it has been due for $18 seconds, takes its turn as the others
-- do, so that each claim brings one forward however much else there is to do. A lane that is due for its timer gets the
-- timer as an item: what comes from now on stands behind it.
--
-- $4-$7 are the shares that hold places of this process: how many (NULL: it takes no lane of that share now), and whether
-- they ask a model; $8 places are held by such. $9-$11 are how many times as many places as are left a tenant, a share of
-- what its tenant may have, and all that ask a model may hold; twice as many of those when their share holds none. A lane
-- that was lost twice is taken alone: one if $12, or none.
--
-- The $13 oldest are looked at. Only when there are more, which are the lanes of a flood or of shares that are full, the
-- heads of $16 shares after ($14, $15) are looked up by key: no lane of a full share is read to find those of others.
-- The oldest are looked for after $17, past the index's entries of lanes that are long done (see lookback.py).
-- The rows to take are looked up by key, whatever the plan is made for: `coalesce` hides their due time from the index of
-- due times. Statistics from a moment when nothing was due say that it is empty, and it was walked from its beginning.
WITH RECURSIVE room AS MATERIALIZED (
    SELECT * FROM unnest($4::text[], $5::text[], $6::int[], $7::bool[]) AS room (tenant_id, share, held, asks)
), of_tenant AS MATERIALIZED (
    SELECT tenant_id, sum(held)::int AS held FROM room GROUP BY tenant_id
), oldest AS MATERIALIZED (
    SELECT lane_id, tenant_id, share, due_at, losses + (lease_until IS NOT NULL)::int AS losses, 0 AS priority, 0 AS class
    FROM {schema}.lanes
    WHERE priority = 0 AND due_at > $17::timestamptz AND due_at < 'infinity' AND due_at <= statement_timestamp()
    ORDER BY due_at
    LIMIT $13
), patient AS MATERIALIZED (
    SELECT lane_id, tenant_id, share, due_at, losses, 1 AS priority,
        (row_number() OVER (ORDER BY due_at) > 1 OR due_at > statement_timestamp() - $18::float8 * interval '1 second')::int
            AS class
    FROM (
        SELECT lane_id, tenant_id, share, due_at, losses + (lease_until IS NOT NULL)::int AS losses
        FROM {schema}.lanes
        WHERE priority = 1 AND due_at > $17::timestamptz AND due_at < 'infinity' AND due_at <= statement_timestamp()
        ORDER BY due_at
        LIMIT $2
    ) AS waiting
), walk (step, tenant_id, share, due_at) AS (
    (
        SELECT 1, tenant_id, share, due_at FROM {schema}.lanes
        WHERE due_at > '-infinity' AND priority = 0 AND (tenant_id, share) > ($14::text, $15::text)
            AND (SELECT count(*) FROM oldest) >= $13
        ORDER BY tenant_id, share, due_at LIMIT 1
    )
    UNION ALL
    SELECT walk.step + 1, next.tenant_id, next.share, next.due_at FROM walk CROSS JOIN LATERAL (
        SELECT tenant_id, share, due_at FROM {schema}.lanes
        WHERE due_at > '-infinity' AND priority = 0 AND (tenant_id, share) > (walk.tenant_id, walk.share)
        ORDER BY tenant_id, share, due_at LIMIT 1
    ) AS next
    WHERE walk.step < $16
), heads AS MATERIALIZED (
    SELECT head.* FROM walk LEFT JOIN room USING (tenant_id, share) CROSS JOIN LATERAL (
        SELECT lane_id, tenant_id, share, due_at, losses + (lease_until IS NOT NULL)::int AS losses, 0 AS priority,
            0 AS class
        FROM {schema}.lanes
        WHERE tenant_id = walk.tenant_id AND share = walk.share
            AND due_at > '-infinity' AND priority = 0 AND due_at <= statement_timestamp()
        ORDER BY due_at LIMIT 8
    ) AS head
    WHERE walk.due_at <= statement_timestamp()
        AND (room.tenant_id IS NULL OR room.held < greatest(1, $10::float8 * $9::float8 * $2))
), candidate AS MATERIALIZED (
    SELECT * FROM oldest UNION SELECT * FROM heads UNION ALL SELECT * FROM patient
), in_share AS (
    SELECT candidate.*, coalesce(room.asks, false) AS asks,
        coalesce(room.held, 0) + row_number() OVER (PARTITION BY tenant_id, share ORDER BY class, due_at, lane_id)
            AS nth_of_share,
        row_number() OVER (PARTITION BY losses >= 2 ORDER BY class, due_at, lane_id) AS nth_lost
    FROM candidate LEFT JOIN room USING (tenant_id, share)
    WHERE room.tenant_id IS NULL OR room.held IS NOT NULL
), in_tenant AS (
    SELECT in_share.*,
        coalesce(held, 0) + row_number() OVER (PARTITION BY tenant_id ORDER BY class, nth_of_share, due_at, lane_id)
            AS nth_of_tenant,
        $11::float8 * CASE WHEN nth_of_share = 1 THEN 2 ELSE 1 END AS asking
    FROM in_share LEFT JOIN of_tenant USING (tenant_id)
    WHERE losses < 2 OR ($12 AND nth_lost = 1)
), placed AS (
    -- Those that would be refused even as the first one take nobody's turn.
    SELECT in_tenant.*,
        $2 + 1 - row_number() OVER turn AS free,
        $8 + count(*) FILTER (WHERE asks) OVER turn AS nth_asking
    FROM in_tenant
    WHERE nth_of_tenant <= greatest(1, $9::float8 * $2)
        AND nth_of_share <= greatest(1, $10::float8 * ($9::float8 * $2 - nth_of_tenant))
        AND (NOT asks OR $8 < asking * $2)
    WINDOW turn AS (ORDER BY class, nth_of_tenant, due_at, lane_id ROWS UNBOUNDED PRECEDING)
), chosen AS (
    SELECT lane_id FROM placed
    WHERE free > 0 AND nth_of_tenant <= greatest(1, $9::float8 * free)
        AND nth_of_share <= greatest(1, $10::float8 * ($9::float8 * free - nth_of_tenant))
        AND (NOT asks OR nth_asking <= asking * free)
), due AS MATERIALIZED (
    SELECT lane_id, due_at, lease_until IS NOT NULL AS expired
    FROM {schema}.lanes
    WHERE lane_id = ANY (ARRAY(SELECT lane_id FROM chosen)) AND coalesce(due_at, 'infinity') <= statement_timestamp()
    FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE {schema}.lanes SET
        fence = fence + 1,
        next_seq = next_seq + (pending = 0)::int,
        pending = greatest(pending, 1),
        attempts = attempts + (losses + (lease_until IS NOT NULL)::int >= 2)::int,
        losses = losses + (lease_until IS NOT NULL)::int,
        holder = $1,
        lease_until = statement_timestamp() + $3::float8 * interval '1 second',
        due_at = statement_timestamp() + $3::float8 * interval '1 second',
        updated_at = statement_timestamp()
    WHERE lane_id = ANY (ARRAY(SELECT lane_id FROM due))
    RETURNING lane_id, tenant_id, fence, pending, done_seq, attempts, data_version, lease_until, share, losses, delays,
        priority, mode, timers
)
SELECT candidates.*, walked.*, taken.*, due.expired
FROM (
    SELECT (SELECT count(*) FROM in_share WHERE priority = 0) AS seen,
        (SELECT count(*) FROM in_share WHERE priority = 1) AS seen_patient,
        coalesce((SELECT min(due_at) FROM candidate), statement_timestamp()) AS oldest_due
) AS candidates
LEFT JOIN (SELECT step, tenant_id AS at_tenant, share AS at_share FROM walk ORDER BY step DESC LIMIT 1) AS walked ON true
LEFT JOIN (taken JOIN due USING (lane_id)) ON true
ORDER BY due.due_at;

-- name: claim_oldest
-- Takes the $2 lanes that have been due the longest, whosever they are: for when so few cannot be more than fair. Those
-- that can wait get the places that are left. A lane that was lost twice is left to `claim`.
WITH urgent AS MATERIALIZED (
    SELECT lane_id, due_at, lease_until IS NOT NULL AS expired
    FROM {schema}.lanes
    WHERE priority = 0 AND due_at < 'infinity' AND due_at <= statement_timestamp()
        AND losses + (lease_until IS NOT NULL)::int < 2
    ORDER BY due_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
), patient AS MATERIALIZED (
    SELECT lane_id, due_at, lease_until IS NOT NULL AS expired
    FROM {schema}.lanes
    WHERE priority = 1 AND due_at < 'infinity' AND due_at <= statement_timestamp()
        AND losses + (lease_until IS NOT NULL)::int < 2
    ORDER BY due_at
    LIMIT $2 - (SELECT count(*) FROM urgent)
    FOR UPDATE SKIP LOCKED
), due AS MATERIALIZED (
    SELECT * FROM urgent UNION ALL SELECT * FROM patient
), taken AS (
    UPDATE {schema}.lanes SET
        fence = fence + 1,
        next_seq = next_seq + (pending = 0)::int,
        pending = greatest(pending, 1),
        losses = losses + (lease_until IS NOT NULL)::int,
        holder = $1,
        lease_until = statement_timestamp() + $3::float8 * interval '1 second',
        due_at = statement_timestamp() + $3::float8 * interval '1 second',
        updated_at = statement_timestamp()
    WHERE lane_id = ANY (ARRAY(SELECT lane_id FROM due))
    RETURNING lane_id, tenant_id, fence, pending, done_seq, attempts, data_version, lease_until, share, losses, delays,
        priority, mode, timers
)
SELECT taken.*, due.expired FROM taken JOIN due USING (lane_id) ORDER BY taken.priority, due.due_at;

-- name: hold
-- Locks those of the lanes whose lease is still the caller's.
SELECT lane.lane_id
FROM unnest($1::uuid[], $2::bigint[]) AS held (lane_id, fence)
JOIN {schema}.lanes AS lane USING (lane_id)
WHERE lane.fence = held.fence AND lane.lease_until IS NOT NULL
ORDER BY lane.lane_id
FOR UPDATE OF lane;

-- name: settle
-- Ends leases: counts what is done, and makes the lane due again when more waits, at once or after due_in, or else when
-- the first of its timers is due.
WITH item AS MATERIALIZED (
    SELECT lane.lane_id, done, due_in, item.attempts, item.data_version, item.delays,
        coalesce(item.timers, lane.timers) AS timers,
        CASE WHEN item.timers IS NULL THEN lane.timer_at ELSE item.timer_at END AS timer_at
    FROM unnest(
        $1::uuid[], $2::bigint[], $3::int[], $4::float8[], $5::int[], $6::bigint[], $7::int[], $8::text[],
        $9::timestamptz[]
    ) AS item (lane_id, fence, done, due_in, attempts, data_version, delays, timers, timer_at)
    JOIN {schema}.lanes AS lane USING (lane_id)
    WHERE lane.fence = item.fence AND lane.lease_until IS NOT NULL
    ORDER BY lane.lane_id
    FOR UPDATE OF lane
)
UPDATE {schema}.lanes AS lane SET
    done_seq = lane.done_seq + item.done,
    pending = lane.pending - item.done,
    due_at = CASE WHEN lane.pending > item.done
        THEN statement_timestamp() + coalesce(item.due_in, 0) * interval '1 second' ELSE item.timer_at END,
    priority = CASE WHEN lane.pending > item.done THEN lane.priority ELSE 1 END,
    timers = item.timers,
    timer_at = item.timer_at,
    lease_until = NULL,
    holder = '',
    attempts = coalesce(item.attempts, lane.attempts),
    losses = 0,
    delays = coalesce(item.delays, lane.delays),
    data_version = coalesce(item.data_version, lane.data_version),
    updated_at = statement_timestamp()
FROM item
WHERE lane.lane_id = item.lane_id
RETURNING lane.lane_id, lane.pending;

-- name: renew
-- Gives leases $3 seconds from now; never fewer than they have.
WITH held AS MATERIALIZED (
    SELECT lane.lane_id
    FROM unnest($1::uuid[], $2::bigint[]) AS held (lane_id, fence)
    JOIN {schema}.lanes AS lane USING (lane_id)
    WHERE lane.fence = held.fence AND lane.lease_until IS NOT NULL
    ORDER BY lane.lane_id
    FOR UPDATE OF lane
)
UPDATE {schema}.lanes AS lane SET
    lease_until = greatest(lane.lease_until, statement_timestamp() + $3::float8 * interval '1 second'),
    due_at = greatest(lane.lease_until, statement_timestamp() + $3::float8 * interval '1 second')
WHERE lane_id = ANY (ARRAY(SELECT lane_id FROM held))
RETURNING lane_id;

-- name: park
-- Ends leases with nothing done, and lets the lanes wait for somebody ($3) with no due time: nothing looks at them until
-- they are woken. What was counted of their workers stays.
WITH item AS MATERIALIZED (
    SELECT lane.lane_id, item.parked, item.attempts
    FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::int[]) AS item (lane_id, fence, parked, attempts)
    JOIN {schema}.lanes AS lane USING (lane_id)
    WHERE lane.fence = item.fence AND lane.lease_until IS NOT NULL
    ORDER BY lane.lane_id
    FOR UPDATE OF lane
)
UPDATE {schema}.lanes AS lane SET
    parked = item.parked, due_at = NULL, lease_until = NULL, holder = '', attempts = item.attempts, losses = 0,
    updated_at = statement_timestamp()
FROM item
WHERE lane.lane_id = item.lane_id
RETURNING lane.lane_id;

-- name: wake
-- Makes up to $3 lanes due that are parked for $2 of the tenant $1.
UPDATE {schema}.lanes SET due_at = statement_timestamp(), parked = NULL, updated_at = statement_timestamp()
WHERE lane_id = ANY (ARRAY(
    SELECT lane_id FROM {schema}.lanes
    WHERE tenant_id = $1 AND parked = $2
    ORDER BY lane_id
    LIMIT $3
    FOR UPDATE
)) AND parked = $2
RETURNING lane_id;

-- name: set_mode
-- Says how the items of a lane are to be treated from the next claim on; whether there is such a lane.
UPDATE {schema}.lanes SET mode = $3, updated_at = statement_timestamp()
WHERE tenant_id = $1 AND lane_id = $2
RETURNING lane_id;
