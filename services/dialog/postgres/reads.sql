-- `{message}` reads messages of the relation `message`, each with its conversation, its lane and the turn that covers it.

-- name: message
SELECT
    message.*, known.contact_id,
    CASE WHEN message.state IN (1, 4) AND lane.lease_until IS NOT NULL AND message.seq = lane.done_seq + 1
        THEN 2 ELSE message.state END AS shown_state,
    turn.turn_id, turn.outcome, turn.plan, turn.first_seq, turn.last_seq, turn.input_tokens, turn.output_tokens,
    turn.price_micros_usd, turn.model_calls, turn.started_at, turn.generated_at
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

-- name: list_messages
-- Newest first, older than $2; $3 conversation, $4 channel, $5 states, each NULL for all.
WITH message AS MATERIALIZED (
    SELECT message.* FROM dialog.messages AS message
    LEFT JOIN dialog.lanes AS lane ON lane.lane_id = message.conversation_id
    WHERE message.tenant_id = $1 AND message_id < $2
        AND ($3::uuid IS NULL OR conversation_id = $3) AND ($4::text IS NULL OR channel_id = $4)
        AND ($5::int[] IS NULL OR CASE WHEN message.state IN (1, 4) AND lane.lease_until IS NOT NULL
            AND message.seq = lane.done_seq + 1 THEN 2 ELSE message.state END = ANY ($5))
    ORDER BY message_id DESC LIMIT $6
)
{message} ORDER BY message_id DESC;

-- name: list_open
-- As list_messages, for states other than COMPLETED: these are few, and found by what marks them.
WITH candidate AS MATERIALIZED (
    SELECT message_id FROM dialog.messages
    WHERE tenant_id = $1 AND trouble IS NOT NULL AND message_id < $2
    UNION
    SELECT waiting.message_id FROM dialog.lanes AS lane
    JOIN dialog.messages AS waiting ON waiting.conversation_id = lane.lane_id AND waiting.seq > lane.done_seq
    WHERE lane.due_at IS NOT NULL AND lane.tenant_id = $1 AND waiting.message_id < $2
), message AS MATERIALIZED (
    SELECT message.* FROM candidate
    JOIN dialog.messages AS message ON message.tenant_id = $1 AND message.message_id = candidate.message_id
    LEFT JOIN dialog.lanes AS lane ON lane.lane_id = message.conversation_id
    WHERE ($3::uuid IS NULL OR conversation_id = $3) AND ($4::text IS NULL OR channel_id = $4)
        AND CASE WHEN message.state IN (1, 4) AND lane.lease_until IS NOT NULL AND message.seq = lane.done_seq + 1
            THEN 2 ELSE message.state END = ANY ($5::int[])
    ORDER BY message.message_id DESC LIMIT $6
)
{message} ORDER BY message_id DESC;

-- name: list_conversations
-- The last active first, after ($2, $3).
SELECT
    known.*, coalesce(lane.pending, 0) AS pending, coalesce(lane.next_seq - 1, 0) AS message_count,
    coalesce(newest.received_at, known.active_at) AS last_message_at
FROM (
    SELECT * FROM dialog.conversations
    WHERE tenant_id = $1 AND ($4::text IS NULL OR channel_id = $4)
        AND (active_at, conversation_id) < ($2::timestamptz, $3::uuid)
    ORDER BY active_at DESC, conversation_id DESC LIMIT $5
) AS known
LEFT JOIN dialog.lanes AS lane ON lane.lane_id = known.conversation_id
LEFT JOIN LATERAL (
    SELECT received_at FROM dialog.messages
    WHERE conversation_id = known.conversation_id AND seq IS NOT NULL
    ORDER BY seq DESC LIMIT 1
) AS newest ON true
ORDER BY active_at DESC, conversation_id DESC;

-- name: queue_stats
-- Counts busy lanes and messages in trouble only; both have indexes that hold nothing else.
WITH busy AS MATERIALIZED (
    SELECT lane_id, pending, done_seq, lease_until FROM dialog.lanes
    WHERE due_at IS NOT NULL AND ($1 = '' OR tenant_id = $1)
), head AS MATERIALIZED (
    SELECT message.received_at, message.state, busy.lease_until
    FROM busy JOIN dialog.messages AS message ON message.conversation_id = busy.lane_id
        AND message.seq = busy.done_seq + 1
)
SELECT
    (SELECT coalesce(sum(pending), 0) FROM busy)::bigint AS pending,
    (SELECT count(*) FROM busy WHERE lease_until IS NOT NULL) AS leased,
    (SELECT count(*) FROM head WHERE state = 4 AND lease_until IS NULL) AS failed,
    (SELECT count(*) FROM dialog.messages
        WHERE trouble IS NOT NULL AND trouble = 5 AND ($1 = '' OR tenant_id = $1)) AS dead,
    (SELECT statement_timestamp() - min(received_at) FROM head WHERE lease_until IS NULL) AS oldest_waiting;

-- name: list_orders
SELECT * FROM dialog.orders
WHERE tenant_id = $1 AND order_id < $2
    AND ($3::uuid IS NULL OR conversation_id = $3) AND ($4::text IS NULL OR bot_id = $4)
ORDER BY order_id DESC LIMIT $5;

-- name: record_outcomes
-- What delivery says of replies. A reply goes on to sent, delivered, read, and never back; dead replaces what was not
-- delivered yet, and an operator's retry may bring the dead back. What does not belong to the message's present turn is
-- of an earlier one and of no interest any more.
INSERT INTO dialog.replies AS reply (turn_id, index, delivery_id, state, changed_at, sent_at, error)
SELECT turn.turn_id, item.index, item.delivery_id, item.state, item.at, CASE WHEN item.state <> 5 THEN item.at END,
    item.error
FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::int[], $5::smallint[], $6::timestamptz[], $7::text[])
    AS item (tenant_id, message_id, delivery_id, index, state, at, error)
JOIN dialog.messages AS message ON message.tenant_id = item.tenant_id AND message.message_id = item.message_id
JOIN LATERAL (
    SELECT * FROM dialog.turns AS turn
    WHERE turn.conversation_id = message.conversation_id AND turn.last_seq >= message.seq
    ORDER BY turn.last_seq LIMIT 1
) AS turn ON turn.first_seq <= message.seq AND turn.state = 2
ORDER BY turn.turn_id, item.index
ON CONFLICT (turn_id, index) DO UPDATE SET
    delivery_id = excluded.delivery_id,
    sent_at = coalesce(reply.sent_at, excluded.sent_at),
    error = CASE WHEN excluded.state = 5 THEN excluded.error ELSE '' END,
    changed_at = excluded.changed_at,
    state = excluded.state
WHERE (reply.delivery_id IS NULL OR reply.delivery_id = excluded.delivery_id) AND CASE
    WHEN excluded.state = 5 THEN reply.state IN (1, 2) AND excluded.changed_at >= coalesce(reply.changed_at, '-infinity')
    WHEN reply.state = 5 THEN excluded.changed_at > coalesce(reply.changed_at, '-infinity')
    ELSE excluded.state > reply.state
END;
