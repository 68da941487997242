-- Every statement takes arrays and locks rows in the order of lane_id (claim: only rows nobody has locked), so two of
-- them never deadlock. Times are the database's; durations are seconds.

-- name: append
-- Adds waiting messages. A lane that waits already keeps its due time: neither a debounce nor a delay after a failure is
-- cut short or drawn out by a later message.
INSERT INTO {schema}.lanes AS lane (lane_id, tenant_id, next_seq, pending, due_at)
SELECT lane_id, tenant_id, 1 + count, count, statement_timestamp() + due_in * interval '1 second'
FROM unnest($1::uuid[], $2::text[], $3::int[], $4::float8[]) AS new (lane_id, tenant_id, count, due_in)
ORDER BY lane_id
ON CONFLICT (lane_id) DO UPDATE SET
    next_seq = lane.next_seq + excluded.pending,
    pending = lane.pending + excluded.pending,
    due_at = coalesce(lane.due_at, excluded.due_at),
    updated_at = statement_timestamp()
RETURNING lane_id, next_seq;

-- name: claim
-- Takes up to $2 lanes that are due, the longest due first. The rows to take are looked up by key, not joined, so that a
-- plan made for any limit stays a handful of index look-ups.
WITH due AS MATERIALIZED (
    SELECT lane_id, due_at, lease_until IS NOT NULL AS expired
    FROM {schema}.lanes
    WHERE due_at <= statement_timestamp()
    ORDER BY due_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE {schema}.lanes SET
        fence = fence + 1,
        attempts = attempts + 1,
        holder = $1,
        lease_until = statement_timestamp() + $3::float8 * interval '1 second',
        due_at = statement_timestamp() + $3::float8 * interval '1 second',
        updated_at = statement_timestamp()
    WHERE lane_id = ANY (ARRAY(SELECT lane_id FROM due))
    RETURNING lane_id, tenant_id, fence, pending, done_seq, attempts, data_version, lease_until
)
SELECT taken.*, due.expired FROM taken JOIN due USING (lane_id) ORDER BY due.due_at;

-- name: hold
-- Locks those of the lanes whose lease is still the caller's.
SELECT lane.lane_id
FROM unnest($1::uuid[], $2::bigint[]) AS held (lane_id, fence)
JOIN {schema}.lanes AS lane USING (lane_id)
WHERE lane.fence = held.fence AND lane.lease_until IS NOT NULL
ORDER BY lane.lane_id
FOR UPDATE OF lane;

-- name: settle
-- Ends leases: counts what is done, and makes the lane due again when more waits, at once or after due_in.
WITH item AS MATERIALIZED (
    SELECT lane.lane_id, done, due_in, item.attempts, item.data_version
    FROM unnest($1::uuid[], $2::bigint[], $3::int[], $4::float8[], $5::int[], $6::bigint[])
        AS item (lane_id, fence, done, due_in, attempts, data_version)
    JOIN {schema}.lanes AS lane USING (lane_id)
    WHERE lane.fence = item.fence AND lane.lease_until IS NOT NULL
    ORDER BY lane.lane_id
    FOR UPDATE OF lane
)
UPDATE {schema}.lanes AS lane SET
    done_seq = lane.done_seq + item.done,
    pending = lane.pending - item.done,
    due_at = CASE WHEN lane.pending > item.done
        THEN statement_timestamp() + coalesce(item.due_in, 0) * interval '1 second' END,
    lease_until = NULL,
    holder = '',
    attempts = coalesce(item.attempts, lane.attempts),
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
