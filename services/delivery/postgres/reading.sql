-- name: get
-- One delivery of a tenant.
SELECT {columns}, {place} FROM delivery.deliveries AS delivery
LEFT JOIN delivery.lanes AS lane ON lane.lane_id = delivery.lane_id
WHERE delivery.tenant_id = $1 AND delivery_id = $2;

-- name: list
-- Deliveries by their ids, newest first.
SELECT {columns}, {place} FROM delivery.deliveries AS delivery
LEFT JOIN delivery.lanes AS lane ON lane.lane_id = delivery.lane_id
WHERE delivery.tenant_id = $1 AND delivery_id = ANY ($2::uuid[])
ORDER BY delivery_id DESC;

-- name: walk
-- The walks go back from $2 over the next $3 deliveries of tenant $1 and find those among them that match: of channel $4
-- ('' for all), with a part in state $5 (0 for any); $6 at most. Each has an index that gives its deliveries in order, so
-- a walk costs as much as its window, whatever matches. `walked` is how many there were, `last` where it ended.
SELECT
    (SELECT count(*) FROM near) AS walked,
    (SELECT delivery_id FROM near ORDER BY delivery_id LIMIT 1) AS last,
    ARRAY(
        SELECT delivery_id FROM near
        WHERE channel_id IS NOT NULL AND ($4 = '' OR channel_id = $4)
            AND ($5 = 0 OR CASE WHEN parts IS NULL THEN $5 = 1
                ELSE EXISTS (SELECT FROM json_array_elements(parts) AS part WHERE (part ->> 0)::int = $5) END)
        ORDER BY delivery_id DESC LIMIT $6
    ) AS found;

-- name: walk_tenant
WITH near AS MATERIALIZED (
    SELECT delivery_id, channel_id, parts FROM delivery.deliveries
    WHERE tenant_id = $1 AND delivery_id < $2 ORDER BY delivery_id DESC LIMIT $3
)
{walk};

-- name: walk_channel
WITH near AS MATERIALIZED (
    SELECT delivery_id, channel_id, parts FROM delivery.deliveries
    WHERE channel_id = $4 AND tenant_id = $1 AND delivery_id < $2 ORDER BY delivery_id DESC LIMIT $3
)
{walk};

-- name: walk_message
-- Those that answer message $7.
WITH near AS MATERIALIZED (
    SELECT delivery_id, channel_id, parts FROM delivery.deliveries
    WHERE message_id = $7 AND tenant_id = $1 AND delivery_id < $2 ORDER BY delivery_id DESC LIMIT $3
)
{walk};

-- name: walk_dead
-- Dead letters.
WITH near AS MATERIALIZED (
    SELECT delivery_id, channel_id, parts FROM (
        SELECT tenant_id, delivery_id FROM delivery.dead
        WHERE tenant_id = $1 AND delivery_id < $2 ORDER BY delivery_id DESC LIMIT $3
    ) AS letter LEFT JOIN delivery.deliveries USING (tenant_id, delivery_id)
)
{walk};

-- name: walk_open
-- Those of $7, which are still to be sent.
WITH near AS MATERIALIZED (
    SELECT delivery_id, channel_id, parts FROM delivery.deliveries
    WHERE tenant_id = $1 AND delivery_id = ANY ($7::uuid[]) AND delivery_id < $2 ORDER BY delivery_id DESC LIMIT $3
)
{walk};

-- name: patient
-- Lanes that can wait, $2 at most. One whose item is far off is idle, and due for a timer: nobody waits for that.
SELECT * FROM delivery.lanes
WHERE priority = 1 AND {due_patient} AND pending > 0 AND due_at < statement_timestamp() + interval '1 hour' AND {of}
ORDER BY due_at LIMIT $2;

-- name: waiting
-- The deliveries that wait in the lanes of a tenant; $2 of each at most.
SELECT delivery.delivery_id FROM (
    (SELECT lane_id, done_seq FROM delivery.lanes
        WHERE due_at > '-infinity' AND priority = 0 AND tenant_id = $1 LIMIT $2)
    UNION ALL
    (SELECT lane_id, done_seq FROM ({patient}) AS patient)
    UNION ALL
    (SELECT lane_id, done_seq FROM delivery.lanes WHERE parked IS NOT NULL AND tenant_id = $1 LIMIT $2)
) AS lane
JOIN delivery.deliveries AS delivery ON delivery.lane_id = lane.lane_id AND delivery.seq > lane.done_seq
LIMIT $2;

-- name: stats
-- What waits, is under way and is dead; {of} narrows it to tenant $1, and {due} names the index. Looks at $2 lanes and $3
-- dead letters at most.
WITH busy AS MATERIALIZED (
    (SELECT lane_id, done_seq, lease_until FROM delivery.lanes
        WHERE {due} AND priority = 0 AND {of} ORDER BY due_at LIMIT $2)
    UNION ALL
    (SELECT lane_id, done_seq, lease_until FROM ({patient}) AS patient)
    UNION ALL
    (SELECT lane_id, done_seq, lease_until FROM delivery.lanes WHERE parked IS NOT NULL AND {of} LIMIT $2)
), open AS MATERIALIZED (
    SELECT delivery.state, delivery.tries, delivery.created_at,
        CASE WHEN parts IS NULL THEN coalesce(cardinality(cuts) / 2, 1)
            ELSE (SELECT count(*) FROM json_array_elements(parts) AS part WHERE (part ->> 0)::int IN (1, 2, 4)) END AS parts
    FROM busy JOIN delivery.deliveries AS delivery ON delivery.lane_id = busy.lane_id AND delivery.seq > busy.done_seq
    LIMIT $3
), letters AS MATERIALIZED (
    SELECT dead_parts FROM delivery.dead WHERE {of} LIMIT $3
)
SELECT
    -- Of what is under way or was tried, one part waits no more; of what is over in a lane that is not settled yet, none.
    (SELECT coalesce(sum(parts), 0) - count(*) FILTER (WHERE parts > 0 AND (state <> 1 OR tries > 0))
        FROM open)::bigint AS waiting,
    (SELECT count(*) FROM busy WHERE lease_until > now()) AS leased_lanes,
    (SELECT count(*) FROM open WHERE state = 1 AND tries > 0) AS retrying,
    (SELECT count(*) FROM open WHERE state = 4) AS unknown,
    (SELECT coalesce(sum(dead_parts), 0) FROM letters)::bigint AS dead,
    (SELECT extract(epoch FROM now() - min(created_at))::float8 FROM open WHERE state = 1 AND tries = 0) AS oldest_waiting,
    (SELECT count(*) FROM busy) >= $2 OR greatest((SELECT count(*) FROM open), (SELECT count(*) FROM letters)) >= $3
        AS capped;
