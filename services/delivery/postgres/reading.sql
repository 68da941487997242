-- name: get
-- One delivery of a tenant.
SELECT {columns} FROM delivery.deliveries AS delivery WHERE tenant_id = $1 AND delivery_id = $2;

-- name: list
-- A tenant's deliveries, newest first.
SELECT {columns} FROM delivery.deliveries AS delivery
WHERE tenant_id = $1 AND ($2::uuid IS NULL OR delivery_id < $2) AND ($4 = '' OR channel_id = $4)
    AND ($5 = 0 OR {in_state})
ORDER BY delivery_id DESC LIMIT $3;

-- name: list_of_message
-- Those that answer one message.
SELECT {columns} FROM delivery.deliveries AS delivery
WHERE message_id = $6 AND tenant_id = $1 AND ($2::uuid IS NULL OR delivery_id < $2) AND ($4 = '' OR channel_id = $4)
    AND ($5 = 0 OR {in_state})
ORDER BY delivery_id DESC LIMIT $3;

-- name: list_open
-- Those that are still to be sent, found by the lanes that wait.
SELECT {columns} FROM delivery.lanes AS lane
JOIN delivery.deliveries AS delivery ON delivery.lane_id = lane.lane_id AND delivery.seq > lane.done_seq
WHERE lane.due_at IS NOT NULL AND lane.tenant_id = $1
    AND ($2::uuid IS NULL OR delivery_id < $2) AND ($4 = '' OR channel_id = $4) AND {in_state}
ORDER BY delivery_id DESC LIMIT $3;

-- name: list_dead
-- Dead letters.
SELECT {columns} FROM delivery.dead AS letter JOIN delivery.deliveries AS delivery USING (tenant_id, delivery_id)
WHERE tenant_id = $1 AND ($2::uuid IS NULL OR delivery_id < $2) AND ($4 = '' OR channel_id = $4) AND {in_state}
ORDER BY delivery_id DESC LIMIT $3;

-- name: stats
-- What waits, is under way and is dead, of one tenant or of all (''). Costs as much as waits, not as much as is stored.
WITH open AS MATERIALIZED (
    SELECT delivery.state, delivery.tries, delivery.created_at,
        CASE WHEN parts IS NULL THEN coalesce(cardinality(cuts) / 2, 1)
            ELSE (SELECT count(*) FROM json_array_elements(parts) AS part WHERE (part ->> 0)::int IN (1, 2, 4)) END AS parts
    FROM delivery.lanes AS lane
    JOIN delivery.deliveries AS delivery ON delivery.lane_id = lane.lane_id AND delivery.seq > lane.done_seq
    WHERE lane.due_at IS NOT NULL AND ($1 = '' OR lane.tenant_id = $1)
)
SELECT
    -- Of what is under way or was tried, one part waits no more; of what is over in a lane that is not settled yet, none.
    (SELECT coalesce(sum(parts), 0) - count(*) FILTER (WHERE parts > 0 AND (state <> 1 OR tries > 0))
        FROM open)::bigint AS waiting,
    (SELECT count(*) FROM delivery.lanes WHERE due_at IS NOT NULL AND lease_until > now()
        AND ($1 = '' OR tenant_id = $1)) AS leased_lanes,
    (SELECT count(*) FROM open WHERE state = 1 AND tries > 0) AS retrying,
    (SELECT count(*) FROM open WHERE state = 4) AS unknown,
    (SELECT coalesce(sum(dead_parts), 0) FROM delivery.dead WHERE $1 = '' OR tenant_id = $1)::bigint AS dead,
    (SELECT extract(epoch FROM now() - min(created_at))::float8 FROM open WHERE state = 1 AND tries = 0) AS oldest;
