-- name: add
-- Stores new messages and puts those that have a place on their lanes ($1-$8, as `append_leased` takes them), and notes
-- conversations. `behind` counts a message's place from the end of what is appended to its lane now; NULL keeps it off the
-- lane. A dedupe id seen before fails the statement (dedupe_pkey). Returns the lanes, each with the stamp of its bot in $9.
WITH lane AS (
    {append_leased}
), noted AS (
    INSERT INTO dialog.conversations AS known (conversation_id, tenant_id, channel_id, bot_id, sealed_chat_id)
    SELECT * FROM rows notes (conversation_id uuid, tenant_id text, channel_id text, bot_id text, sealed_chat_id bytea)
    ORDER BY conversation_id
    ON CONFLICT (conversation_id) DO UPDATE SET active_at = statement_timestamp(), bot_id = excluded.bot_id,
        chat_id = '', sealed_chat_id = excluded.sealed_chat_id
), new AS NOT MATERIALIZED (
    SELECT * FROM rows messages (
        tenant_id text, message_id uuid, conversation_id uuid, behind int, channel_id text, bot_id text, dedupe_id uuid,
        request bytea, chat text, traceparent text, tracestate text, rejection smallint, kind smallint
    )
), once AS (
    INSERT INTO dialog.dedupe (dedupe_id, message_id, conversation_id, received_at)
    SELECT dedupe_id, message_id, conversation_id, statement_timestamp() FROM new ORDER BY dedupe_id
), stored AS (
    INSERT INTO dialog.messages (
        tenant_id, message_id, conversation_id, seq, channel_id, bot_id, request, chat, traceparent, tracestate,
        received_at, state, rejection, terminal_reason, completed_at, kind
    )
    SELECT
        new.tenant_id, message_id, conversation_id, next_seq - behind, channel_id, bot_id, request, chat,
        traceparent, tracestate, statement_timestamp(), CASE WHEN behind IS NULL THEN 5 ELSE 1 END, rejection,
        CASE WHEN behind IS NULL THEN 'REJECTED' ELSE '' END,
        CASE WHEN behind IS NULL THEN statement_timestamp() END, kind
    FROM new LEFT JOIN lane ON lane.lane_id = new.conversation_id
)
SELECT lane.*, bot.stamp, statement_timestamp() AS now
FROM lane JOIN unnest($1::uuid[], $9::text[]) AS asked (lane_id, bot_id) USING (lane_id)
LEFT JOIN dialog.bots AS bot ON bot.tenant_id = lane.tenant_id AND bot.bot_id = asked.bot_id;

-- name: find_duplicates
SELECT dedupe_id, message_id, conversation_id FROM dialog.dedupe WHERE dedupe_id = ANY ($1::uuid[]);

-- name: requeue
-- Gives a dead message a new place at the end of its lane, for an operator's retry.
WITH lane AS (
    {append}
)
UPDATE dialog.messages AS message SET
    seq = lane.next_seq - 1, state = 1, attempts = 0, terminal_reason = '', completed_at = NULL,
    traceparent = $9, tracestate = $10
FROM lane
WHERE message.tenant_id = $7 AND message.message_id = $8;

-- name: lock_lane
-- Before its message: so do all who change both.
SELECT lane.lane_id, lane.done_seq, lane.lease_until IS NOT NULL AS leased
FROM dialog.messages AS message JOIN dialog.lanes AS lane ON lane.lane_id = message.conversation_id
WHERE message.tenant_id = $1 AND message.message_id = $2
FOR UPDATE OF lane;

-- name: lock_message
SELECT conversation_id, bot_id, channel_id, seq, state, rejection FROM dialog.messages
WHERE tenant_id = $1 AND message_id = $2
FOR UPDATE;

-- name: restart_head
-- Makes a waiting FAILED message due at once, with all its attempts before it. It is decided anew, in a new turn, unless
-- the turn has written something already: that goes on, so that nothing is written twice.
WITH head AS (
    UPDATE dialog.messages SET state = 1, attempts = 0, traceparent = $3, tracestate = $4
    WHERE tenant_id = $1 AND message_id = $2
    RETURNING conversation_id, seq
), dropped AS (
    DELETE FROM dialog.turns AS turn USING head
    WHERE turn.conversation_id = head.conversation_id AND turn.last_seq >= head.seq AND turn.state = 1
        AND NOT EXISTS (SELECT FROM dialog.orders WHERE orders.turn_id = turn.turn_id)
)
UPDATE dialog.lanes AS lane SET due_at = statement_timestamp(), parked = NULL, attempts = 0, delays = 0
FROM head
WHERE lane.lane_id = head.conversation_id;

-- name: forget_dedupe_ids
-- The oldest $2 of those that came longer ago than $1.
DELETE FROM dialog.dedupe WHERE dedupe_id = ANY (ARRAY(
    SELECT dedupe_id FROM dialog.dedupe WHERE received_at < statement_timestamp() - $1::interval ORDER BY received_at LIMIT $2
))
RETURNING 1;
