-- `{message}` reads messages of the relation `message`, each with its conversation, its lane and the turn that covers it.

-- name: message
SELECT
    message.*, known.contact_id,
    CASE WHEN message.state IN (1, 4) AND lane.lease_until IS NOT NULL AND message.seq = lane.done_seq + 1
        THEN 2 ELSE message.state END AS shown_state,
    turn.turn_id, turn.outcome, turn.plan, turn.first_seq, turn.last_seq, turn.input_tokens, turn.output_tokens,
    turn.price_micros_usd, turn.model_calls, turn.started_at, turn.generated_at,
    lane.done_seq AS lane_done_seq, lane.due_at AS lane_due_at, lane.lease_until AS lane_lease_until,
    lane.parked AS lane_parked, statement_timestamp() AS now
FROM message
LEFT JOIN dialog.conversations AS known USING (conversation_id)
LEFT JOIN dialog.lanes AS lane ON lane.lane_id = message.conversation_id
LEFT JOIN LATERAL (
    SELECT * FROM dialog.turns AS turn
    WHERE turn.conversation_id = message.conversation_id AND turn.last_seq >= message.seq
    ORDER BY turn.last_seq LIMIT 1
) AS turn ON turn.first_seq <= message.seq;

-- name: replies
SELECT turn_id, index, delivery_id, state, sent_at, error FROM dialog.replies WHERE turn_id = ANY ($1::uuid[]);

-- name: get_message
WITH message AS MATERIALIZED (
    SELECT * FROM dialog.messages WHERE tenant_id = $1 AND message_id = $2
)
{message};

-- name: get_messages
WITH message AS MATERIALIZED (
    SELECT * FROM dialog.messages WHERE tenant_id = $1 AND message_id = ANY ($2::uuid[])
)
{message} ORDER BY message_id DESC;

-- The walks go back from $2 over the next $3 messages of tenant $1 and find those among them that match: of conversation
-- $4, channel $5 and states $6 (each NULL for all), $7 at most. Each has an index that gives its messages in order, so a
-- walk costs as much as its window, whatever matches. `walked` is how many there were, `last` where it ended.

-- name: walk
SELECT
    (SELECT count(*) FROM near) AS walked,
    (SELECT message_id FROM near ORDER BY message_id LIMIT 1) AS last,
    ARRAY(
        SELECT near.message_id FROM near LEFT JOIN dialog.lanes AS lane ON lane.lane_id = near.conversation_id
        WHERE ($4::uuid IS NULL OR near.conversation_id = $4) AND ($5::text IS NULL OR near.channel_id = $5)
            AND ($6::int[] IS NULL OR CASE WHEN near.state IN (1, 4) AND lane.lease_until IS NOT NULL
                AND near.seq = lane.done_seq + 1 THEN 2 ELSE near.state END = ANY ($6))
        ORDER BY near.message_id DESC LIMIT $7
    ) AS found;

-- name: walk_tenant
WITH near AS MATERIALIZED (
    SELECT message_id, conversation_id, channel_id, seq, state FROM dialog.messages
    WHERE tenant_id = $1 AND message_id < $2 ORDER BY message_id DESC LIMIT $3
)
{walk};

-- name: walk_conversation
WITH near AS MATERIALIZED (
    SELECT message_id, conversation_id, channel_id, seq, state FROM dialog.messages
    WHERE conversation_id = $4 AND tenant_id = $1 AND message_id < $2 ORDER BY message_id DESC LIMIT $3
)
{walk};

-- name: walk_channel
WITH near AS MATERIALIZED (
    SELECT message_id, conversation_id, channel_id, seq, state FROM dialog.messages
    WHERE channel_id = $5 AND tenant_id = $1 AND message_id < $2 ORDER BY message_id DESC LIMIT $3
)
{walk};

-- name: walk_trouble
-- What failed, is dead or was rejected, and what waits ($8, few).
WITH near AS MATERIALIZED (
    SELECT * FROM (
        (SELECT message_id, conversation_id, channel_id, seq, state FROM dialog.messages
            WHERE trouble = 4 AND tenant_id = $1 AND message_id < $2 AND $6::int[] && '{2,4}'
            ORDER BY message_id DESC LIMIT $3)
        UNION ALL
        (SELECT message_id, conversation_id, channel_id, seq, state FROM dialog.messages
            WHERE trouble = 5 AND tenant_id = $1 AND message_id < $2 AND 5 = ANY ($6::int[])
            ORDER BY message_id DESC LIMIT $3)
        UNION ALL
        (SELECT message_id, conversation_id, channel_id, seq, state FROM dialog.messages
            WHERE trouble = 6 AND tenant_id = $1 AND message_id < $2 AND 5 = ANY ($6::int[])
            ORDER BY message_id DESC LIMIT $3)
        UNION ALL
        (SELECT message_id, conversation_id, channel_id, seq, state FROM dialog.messages
            WHERE tenant_id = $1 AND message_id = ANY ($8::uuid[]) AND message_id < $2 AND trouble IS NULL)
    ) AS source
    ORDER BY message_id DESC LIMIT $3
)
{walk};

-- name: patient
-- Lanes that can wait, $2 at most. One whose item is far off is idle, and due for a timer: nobody waits for that.
SELECT * FROM dialog.lanes
WHERE priority = 1 AND {due_patient} AND pending > 0 AND due_at < statement_timestamp() + interval '1 hour' AND {of}
ORDER BY due_at LIMIT $2;

-- name: waiting
-- The messages that wait in the lanes of a tenant; $2 of each at most.
SELECT message.message_id FROM (
    (SELECT lane_id, done_seq FROM dialog.lanes
        WHERE due_at > '-infinity' AND priority = 0 AND tenant_id = $1 LIMIT $2)
    UNION ALL
    (SELECT lane_id, done_seq FROM ({patient}) AS patient)
    UNION ALL
    (SELECT lane_id, done_seq FROM dialog.lanes WHERE parked IS NOT NULL AND tenant_id = $1 LIMIT $2)
) AS lane
JOIN dialog.messages AS message ON message.conversation_id = lane.lane_id AND message.seq > lane.done_seq
LIMIT $2;

-- name: list_conversations
-- The last active first, after ($2, $3).
WITH known AS MATERIALIZED (
    SELECT * FROM dialog.conversations
    WHERE tenant_id = $1 AND (active_at, conversation_id) < ($2::timestamptz, $3::uuid)
    ORDER BY active_at DESC, conversation_id DESC LIMIT $4
)
{conversation};

-- name: list_conversations_of_channel
-- As list_conversations, of channel $5.
WITH known AS MATERIALIZED (
    SELECT * FROM dialog.conversations
    WHERE channel_id = $5 AND tenant_id = $1 AND (active_at, conversation_id) < ($2::timestamptz, $3::uuid)
    ORDER BY active_at DESC, conversation_id DESC LIMIT $4
)
{conversation};

-- name: conversation
SELECT
    known.*, coalesce(lane.pending, 0) AS pending, coalesce(lane.next_seq - 1, 0) AS message_count,
    coalesce(newest.received_at, known.active_at) AS last_message_at
FROM known
LEFT JOIN dialog.lanes AS lane ON lane.lane_id = known.conversation_id
LEFT JOIN LATERAL (
    SELECT received_at FROM dialog.messages
    WHERE conversation_id = known.conversation_id AND seq IS NOT NULL
    ORDER BY seq DESC LIMIT 1
) AS newest ON true
ORDER BY active_at DESC, conversation_id DESC;

-- name: queue_stats
-- Counts busy lanes, parked ones, and messages in trouble, up to $2 of each; all have indexes that hold nothing else. The
-- oldest is looked for among the 100 lanes that have been due the longest. {of} narrows it to tenant $1, and {due} names
-- the index.
WITH busy AS MATERIALIZED (
    (SELECT lane_id, pending, done_seq, lease_until, due_at FROM dialog.lanes
        WHERE {due} AND priority = 0 AND {of} ORDER BY due_at LIMIT $2)
    UNION ALL
    (SELECT lane_id, pending, done_seq, lease_until, due_at FROM ({patient}) AS patient)
    UNION ALL
    (SELECT lane_id, pending, done_seq, lease_until, due_at FROM dialog.lanes
        WHERE parked IS NOT NULL AND {of} LIMIT $2)
), failed AS MATERIALIZED (
    SELECT conversation_id FROM dialog.messages WHERE trouble = 4 AND {of} LIMIT $2
), first AS (
    SELECT lane_id, done_seq FROM busy WHERE lease_until IS NULL ORDER BY due_at LIMIT 100
)
SELECT
    (SELECT count(*) FROM busy) AS busy,
    (SELECT coalesce(sum(pending), 0) FROM busy)::bigint AS pending,
    (SELECT count(*) FROM busy WHERE lease_until IS NOT NULL) AS leased,
    (SELECT coalesce(sum(pending), 0) FROM (
        SELECT pending FROM dialog.lanes WHERE parked IS NOT NULL AND {of} LIMIT $2
    ) AS parked)::bigint AS parked,
    (SELECT count(*) FROM failed JOIN dialog.lanes AS lane ON lane.lane_id = failed.conversation_id
        WHERE lane.lease_until IS NULL) AS failed,
    (SELECT count(*) FROM (SELECT FROM dialog.messages WHERE trouble = 5 AND {of} LIMIT $2) AS dead) AS dead,
    (SELECT statement_timestamp() - min(head.received_at) FROM first
        JOIN dialog.messages AS head ON head.conversation_id = first.lane_id AND head.seq = first.done_seq + 1
    ) AS oldest_waiting;

-- name: list_orders
-- Newest first, older than $2, $3 at most; so are those of a conversation and of a bot.
SELECT * FROM dialog.orders WHERE tenant_id = $1 AND order_id < $2 ORDER BY order_id DESC LIMIT $3;

-- name: list_orders_of_conversation
SELECT * FROM dialog.orders
WHERE conversation_id = $4 AND tenant_id = $1 AND order_id < $2 AND ($5::text IS NULL OR bot_id = $5)
ORDER BY order_id DESC LIMIT $3;

-- name: list_orders_of_bot
SELECT * FROM dialog.orders WHERE bot_id = $4 AND tenant_id = $1 AND order_id < $2 ORDER BY order_id DESC LIMIT $3;

-- name: record_outcomes
-- What delivery says of replies. A reply goes on to sent, delivered, read, and never back; dead replaces what was not
-- delivered yet, and an operator's retry may bring the dead back. What does not belong to the message's present turn is
-- of an earlier one and of no interest any more. The messages' ids lie from $8 to $9; a turn's message is the last that it
-- answers.
INSERT INTO dialog.replies AS reply (turn_id, index, delivery_id, state, changed_at, sent_at, error)
SELECT turn.turn_id, item.index, item.delivery_id, item.state, item.at, CASE WHEN item.state <> 5 THEN item.at END,
    item.error
FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::int[], $5::smallint[], $6::timestamptz[], $7::text[])
    AS item (tenant_id, message_id, delivery_id, index, state, at, error)
JOIN dialog.messages AS message ON message.tenant_id = item.tenant_id AND message.message_id = item.message_id
    AND message.message_id BETWEEN $8 AND $9
JOIN LATERAL (
    SELECT * FROM dialog.turns AS turn
    WHERE turn.conversation_id = message.conversation_id AND turn.last_seq >= message.seq AND turn.message_id >= $8
    ORDER BY turn.last_seq LIMIT 1
) AS turn ON turn.first_seq <= message.seq AND turn.state = 2
ORDER BY turn.turn_id, item.index
ON CONFLICT (turn_id, index) DO UPDATE SET
    delivery_id = excluded.delivery_id,
    sent_at = least(reply.sent_at, excluded.sent_at),
    error = CASE WHEN excluded.state = 5 THEN excluded.error ELSE '' END,
    changed_at = greatest(reply.changed_at, excluded.changed_at),
    -- That it was sent may be heard after that it was delivered, and then says only when.
    state = CASE WHEN reply.state IN (3, 4) AND excluded.state < reply.state THEN reply.state ELSE excluded.state END
WHERE (reply.delivery_id IS NULL OR reply.delivery_id = excluded.delivery_id) AND CASE
    WHEN excluded.state = 5 THEN reply.state IN (1, 2) AND excluded.changed_at >= coalesce(reply.changed_at, '-infinity')
    WHEN reply.state = 5 THEN excluded.changed_at > coalesce(reply.changed_at, '-infinity')
    ELSE excluded.state > reply.state OR excluded.sent_at < reply.sent_at
END;
