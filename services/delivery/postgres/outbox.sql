-- name: known
-- Messages that were stored before; of one whose delivery is not kept any more, the id alone.
SELECT tenant_id, known.request_id, delivery_id, channel_id, conversation_id, chat_id, {contents}
FROM unnest($1::text[], $2::text[]) AS asked (tenant_id, request_id)
JOIN delivery.dedupe AS known USING (tenant_id, request_id)
LEFT JOIN delivery.deliveries AS delivery USING (tenant_id, delivery_id);

-- name: store
-- Stores messages and counts them into their lanes, which give them their sequences (the lanes' own `append`, in the same
-- statement: a batch costs one round trip). What was stored before, or has no channel any more, is left out. Broadcasts can
-- wait, and take places from a share of their own; a reply behind one makes its lane urgent.
-- `parts` that nothing has happened to are NULL when there is one, so that most rows need none. `begun` are the parts of
-- deliveries that the holder would send at once: the first one is started in them. If such a delivery is the first one of
-- an idle lane, the lane is leased to him for `ttl` seconds, and those parts are stored. A reply makes a lane due in which
-- only broadcasts wait, as they may wait long for what replies leave of a rate.
WITH new AS MATERIALIZED (
    SELECT item.*,
        row_number() OVER (PARTITION BY item.lane_id ORDER BY position) AS nth,
        count(*) OVER (PARTITION BY item.lane_id) AS count,
        (min(item.priority) OVER (PARTITION BY item.lane_id) - 1)::smallint AS lane_priority
    FROM unnest({new_arrays}) WITH ORDINALITY AS item ({new_columns}, position)
    WHERE EXISTS (SELECT FROM delivery.channels AS channel WHERE channel.channel_key = item.channel_key)
        AND NOT EXISTS (
            SELECT FROM delivery.dedupe AS known
            WHERE known.tenant_id = item.tenant_id AND known.request_id = item.request_id
        )
), lane AS (
    INSERT INTO delivery.lanes AS lane (
        lane_id, tenant_id, next_seq, pending, priority, share, due_at, lease_until, holder, fence
    )
    SELECT lane_id, tenant_id, 1 + count, count, lane_priority,
        channel_key || CASE WHEN lane_priority = 0 THEN '' ELSE ' broadcast' END, coalesce(ends, statement_timestamp()), ends,
        CASE WHEN ends IS NULL THEN '' ELSE {holder}::text END, (ends IS NOT NULL)::int
    FROM new CROSS JOIN LATERAL (
        SELECT CASE WHEN begun IS NOT NULL THEN statement_timestamp() + {ttl}::float8 * interval '1 second' END
    ) AS lease (ends)
    WHERE nth = 1 ORDER BY lane_id
    ON CONFLICT (lane_id) DO UPDATE SET
        next_seq = lane.next_seq + excluded.pending,
        pending = lane.pending + excluded.pending,
        due_at = CASE
            WHEN lane.parked IS NOT NULL THEN NULL
            WHEN lane.pending > 0 AND lane.lease_until IS NULL AND lane.priority > excluded.priority
                THEN least(lane.due_at, statement_timestamp())
            ELSE coalesce(lane.due_at, excluded.due_at)
        END,
        priority = CASE WHEN lane.pending = 0 THEN excluded.priority ELSE least(lane.priority, excluded.priority) END,
        share = CASE WHEN lane.pending > 0 AND lane.priority < excluded.priority THEN lane.share ELSE excluded.share END,
        lease_until = CASE WHEN lane.pending = 0 THEN excluded.lease_until ELSE lane.lease_until END,
        holder = CASE WHEN lane.pending = 0 THEN excluded.holder ELSE lane.holder END,
        fence = CASE WHEN lane.pending = 0 THEN lane.fence + excluded.fence ELSE lane.fence END,
        updated_at = statement_timestamp()
    RETURNING lane_id, next_seq, pending, fence, lease_until
), once AS (
    INSERT INTO delivery.dedupe (request_id, tenant_id, delivery_id)
    SELECT request_id, tenant_id, delivery_id FROM new ORDER BY request_id, tenant_id
), stored AS (
    INSERT INTO delivery.deliveries (
        delivery_id, tenant_id, request_id, channel_key, channel_id, conversation_id, chat_id, message_id, reply_index,
        text, sealed_text, sealed_content, traceparent, tracestate, lane_id, priority, seq, state, tries, parts
    )
    SELECT delivery_id, tenant_id, request_id, channel_key, channel_id, conversation_id, chat_id, message_id, reply_index,
        '', sealed_text, sealed_content, traceparent, tracestate, lane_id, new.priority, next_seq - count + nth - 1,
        CASE WHEN begins THEN 2 ELSE 1 END, begins::int, CASE WHEN begins THEN begun ELSE parts END::json
    FROM new JOIN lane USING (lane_id)
    CROSS JOIN LATERAL (SELECT nth = 1 AND begun IS NOT NULL AND pending = count) AS handed_over (begins)
    RETURNING delivery_id, lane_id, seq, state
)
SELECT delivery_id, seq, state = 2 AS begun, fence, lease_until FROM stored JOIN lane USING (lane_id);

-- name: waiting
-- The first $3 deliveries that wait in each of these lanes, in their order.
SELECT lane.lane_id, first.*
FROM unnest($1::uuid[], $2::bigint[]) AS lane (lane_id, done_seq)
CROSS JOIN LATERAL (
    SELECT {queued}
    FROM delivery.deliveries
    WHERE lane_id = lane.lane_id AND seq > lane.done_seq
    ORDER BY seq
    LIMIT $3
) AS first;

-- name: read
-- One delivery as its worker reads it.
SELECT {queued}
FROM delivery.deliveries
WHERE tenant_id = $1 AND delivery_id = $2;

-- name: start
-- Marks deliveries as started, if the lease and the revision are still those that the worker read.
UPDATE delivery.deliveries AS delivery
SET state = 2, tries = new.tries, parts = new.parts::json, revision = delivery.revision + 1
FROM unnest({start_arrays}) AS new ({start_columns})
JOIN delivery.lanes AS lane ON lane.lane_id = new.lane_id
WHERE delivery.tenant_id = new.tenant_id AND delivery.delivery_id = new.delivery_id
    AND delivery.delivery_id BETWEEN {first_started} AND {last_started}
    AND delivery.revision = new.revision AND lane.fence = new.fence AND lane.lease_until IS NOT NULL
RETURNING delivery.delivery_id;

-- name: record
-- Stores what came of calls, if the revision is still the one that the worker read: the parts, which provider ids are
-- theirs, what dialog must hear of it, and the dead letters; and ends leases (the lanes' own `settle`, in the same
-- statement), but none that counts a delivery as done whose change was refused. Returns the deliveries that were changed and the lanes that were settled, with what is still pending in them.
WITH new AS MATERIALIZED (
    SELECT *
    FROM unnest({change_arrays}) AS new ({change_columns})
), done AS (
    UPDATE delivery.deliveries AS delivery
    SET state = new.state, tries = new.tries, parts = coalesce(new.parts::json, delivery.parts), sent_at = new.sent_at,
        revision = delivery.revision + 1
    FROM new
    WHERE delivery.tenant_id = new.tenant_id AND delivery.delivery_id = new.delivery_id
        AND delivery.delivery_id BETWEEN {first_changed} AND {last_changed} AND delivery.revision = new.revision
    RETURNING new.*
), ids AS (
    INSERT INTO delivery.provider_ids AS known (channel_key, provider_message_id, delivery_id, part)
    SELECT DISTINCT ON (channel_key, provider_message_id) channel_key, provider_message_id, delivery_id, part
    FROM done WHERE provider_message_id <> ''
    ORDER BY channel_key, provider_message_id
    ON CONFLICT (channel_key, provider_message_id, delivery_id) DO UPDATE SET part = excluded.part
), letters AS (
    INSERT INTO delivery.dead (tenant_id, delivery_id, dead_parts)
    SELECT tenant_id, delivery_id, dead FROM done WHERE dead > 0
    ORDER BY tenant_id, delivery_id
    ON CONFLICT (tenant_id, delivery_id) DO UPDATE SET dead_parts = excluded.dead_parts, died_at = now()
), raised AS (  -- -1: it was dead, and is not any more
    DELETE FROM delivery.dead AS letter USING done
    WHERE done.dead < 0 AND letter.tenant_id = done.tenant_id AND letter.delivery_id = done.delivery_id
), told AS (
    INSERT INTO delivery.outcomes (tenant_id, delivery_id, state, at, error)
    SELECT tenant_id, delivery_id, outcome, outcome_at, error FROM done WHERE outcome > 0
    RETURNING outcome_id, delivery_id
), item AS MATERIALIZED (
    SELECT lane.lane_id, item.done, item.due_in, item.delivery_id
    FROM unnest({settle_arrays}) AS item ({settle_columns})
    JOIN delivery.lanes AS lane USING (lane_id)
    WHERE lane.fence = item.fence AND lane.lease_until IS NOT NULL
        AND (item.delivery_id IS NULL OR item.delivery_id IN (SELECT delivery_id FROM done))
    ORDER BY lane.lane_id
    FOR UPDATE OF lane
), settled AS (
    UPDATE delivery.lanes AS lane SET
        done_seq = lane.done_seq + item.done,
        pending = lane.pending - item.done,
        due_at = CASE WHEN lane.pending > item.done
            THEN statement_timestamp() + item.due_in * interval '1 second' END,
        lease_until = NULL,
        holder = '',
        attempts = 0,
        losses = 0,
        delays = 0,
        updated_at = statement_timestamp()
    FROM item
    WHERE lane.lane_id = item.lane_id
    RETURNING item.delivery_id, lane.lane_id, lane.fence, lane.pending
)
SELECT done.delivery_id, told.outcome_id, settled.lane_id, settled.fence, settled.pending
FROM done LEFT JOIN told USING (delivery_id) FULL JOIN settled ON settled.delivery_id = done.delivery_id;

-- name: move
-- Puts a delivery into another lane: beside its conversation's.
UPDATE delivery.deliveries SET lane_id = $3, seq = $4 WHERE tenant_id = $1 AND delivery_id = $2;

-- name: due_now
-- What waits for a channel is due at once: it has recovered, was enabled, or is gone.
UPDATE delivery.lanes AS lane SET due_at = statement_timestamp()
WHERE lane.lane_id = ANY (ARRAY(
    SELECT waiting.lane_id
    FROM delivery.lanes AS waiting
    JOIN delivery.deliveries AS delivery
        ON delivery.lane_id = waiting.lane_id AND delivery.seq = waiting.done_seq + 1
    WHERE waiting.priority IN (0, 1) AND waiting.due_at < 'infinity' AND waiting.due_at > statement_timestamp()
        AND waiting.lease_until IS NULL AND delivery.channel_key = $1
    ORDER BY waiting.lane_id
    FOR UPDATE OF waiting SKIP LOCKED
))
RETURNING lane.lane_id;

-- name: lane_due_now
-- A lane has something new to do, if nobody works on it already.
UPDATE delivery.lanes SET due_at = statement_timestamp()
WHERE lane_id = $1 AND due_at > statement_timestamp() AND lease_until IS NULL;
