-- name: read_claimed
-- What the worker of a lane needs: its first waiting message, a turn that was begun, and which state of the bot holds.
-- The message is looked for among those from $4 on, which lie in few stretches; who does not find it asks again for all.
--
-- The turn of one message bears that message's id, so it lies in one stretch. A turn of several bears the id of the last
-- of them, which may be of any age: an operator may have queued an old one again. It is looked for from $5 on, and only
-- in lanes where several messages wait.
SELECT
    lane.lane_id,
    message.message_id, message.seq, message.request, message.received_at, message.chat,
    message.traceparent, message.tracestate, message.tenant_id, message.bot_id, message.kind,
    extract(epoch FROM statement_timestamp() - message.received_at)::float8 AS age,
    turn.turn_id, turn.first_seq, turn.last_seq, turn.state, turn.inputs, turn.plan,
    bot.stamp
FROM unnest((SELECT $1::uuid[]), (SELECT $2::bigint[]), (SELECT $3::int[])) AS lane (lane_id, done_seq, pending)
CROSS JOIN LATERAL (
    SELECT * FROM dialog.messages AS message
    WHERE message.conversation_id = lane.lane_id AND message.seq = lane.done_seq + 1 AND message.message_id >= $4::uuid
    LIMIT 1
) AS message
LEFT JOIN LATERAL (
    (SELECT * FROM dialog.turns AS turn
        WHERE turn.conversation_id = lane.lane_id AND turn.last_seq = lane.done_seq + 1
            AND turn.message_id = message.message_id)
    UNION ALL
    (SELECT * FROM dialog.turns AS turn
        WHERE lane.pending > 1 AND turn.conversation_id = lane.lane_id AND turn.last_seq > lane.done_seq + 1
            AND turn.message_id >= $5::uuid
        ORDER BY turn.last_seq LIMIT 1)
    LIMIT 1
) AS turn ON true
LEFT JOIN dialog.bots AS bot ON bot.tenant_id = message.tenant_id AND bot.bot_id = message.bot_id;

-- name: read_bots
SELECT
    bot.tenant_id, bot.bot_id, settings, enabled, broken_reason, revision, stamp, bot.created_at, updated_at,
    tenant.default_region, tenant.time_zone
FROM unnest($1::text[], $2::text[]) AS wanted (tenant_id, bot_id)
JOIN dialog.bots AS bot USING (tenant_id, bot_id)
JOIN dialog.tenants AS tenant USING (tenant_id);

-- name: read_waiting
-- The messages that wait after $2, without the first, which is known.
SELECT tenant_id, message_id, seq, kind, request, received_at, chat, traceparent, tracestate, 0::float8 AS age
FROM dialog.messages
WHERE conversation_id = $1 AND seq > $2 AND seq <= $3
ORDER BY seq;

-- name: commit_plans
-- Commits plans with their rows, for lanes that are still held ($1, $2); returns those.
WITH held AS MATERIALIZED (
    {hold}
), item AS MATERIALIZED (
    SELECT plans.* FROM rows plans (
        conversation_id uuid, last_seq bigint, first_seq bigint, turn_id uuid, tenant_id text, bot_id text,
        channel_id text, contact_id uuid, message_id uuid, outcome smallint, plan bytea, input_tokens bigint,
        output_tokens bigint, price_micros_usd bigint, model_calls int, started_at timestamptz
    )
    JOIN held ON held.lane_id = plans.conversation_id
), planned AS (
    INSERT INTO dialog.turns AS turn (
        conversation_id, last_seq, first_seq, turn_id, tenant_id, message_id, state, outcome, plan,
        input_tokens, output_tokens, price_micros_usd, model_calls, started_at, generated_at
    )
    SELECT
        conversation_id, last_seq, first_seq, turn_id, tenant_id, message_id, 2, outcome, item.plan,
        input_tokens, output_tokens, price_micros_usd, model_calls, started_at, statement_timestamp()
    FROM item
    ON CONFLICT (conversation_id, last_seq, message_id) DO UPDATE SET
        first_seq = excluded.first_seq, turn_id = excluded.turn_id,
        state = 2, outcome = excluded.outcome, plan = excluded.plan, inputs = NULL,
        input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens,
        price_micros_usd = excluded.price_micros_usd, model_calls = excluded.model_calls,
        started_at = excluded.started_at, generated_at = excluded.generated_at
    WHERE turn.state = 1
), ordered AS (
    INSERT INTO dialog.orders (
        tenant_id, order_id, turn_id, index, bot_id, channel_id, conversation_id, contact_id, message_id, form_id,
        fields, created_at
    )
    SELECT
        tenant_id, order_id, turn_id, place, bot_id, channel_id, conversation_id, contact_id, message_id, form_id,
        fields, statement_timestamp()
    FROM rows orders (turn_id uuid, order_id uuid, place int, form_id text, fields jsonb)
    JOIN item USING (turn_id)
    ON CONFLICT ON CONSTRAINT orders_once DO NOTHING
), ended AS (
    INSERT INTO dialog.dialog_outcomes (
        turn_id, tenant_id, bot_id, channel_id, conversation_id, completed, dropoff_step, message_count, duration,
        ended_at
    )
    SELECT
        ends.turn_id, tenant_id, ends.bot_id, ends.channel_id, conversation_id, completed, dropoff_step, message_count,
        duration, coalesce(ended_at, statement_timestamp())
    FROM rows ends (
        conversation_id uuid, turn_id uuid, bot_id text, channel_id text, completed bool, dropoff_step text,
        message_count int, duration interval, ended_at timestamptz
    )
    JOIN item USING (conversation_id)
    ON CONFLICT (turn_id) DO NOTHING
), met AS (
    UPDATE dialog.conversations AS known SET contact_id = met.contact_id
    FROM rows met (conversation_id uuid, contact_id uuid)
    WHERE known.conversation_id = met.conversation_id AND known.contact_id IS DISTINCT FROM met.contact_id
)
SELECT lane_id FROM held;

-- name: finish
-- Ends leases ($1-$9 as `settle` takes them), with the last states of their messages, whose ids lie from $10 to $11, and
-- what became of the replies.
WITH settled AS (
    {settle}
), done AS (
    UPDATE dialog.messages AS message SET
        state = coalesce(ends.state, message.state), terminal_reason = ends.terminal_reason,
        attempts = coalesce(
            ends.attempts, CASE WHEN ends.state IN (3, 5) THEN greatest(message.attempts, 1) ELSE message.attempts END
        ),
        last_error = CASE WHEN ends.last_error = '' THEN message.last_error ELSE ends.last_error END,
        last_error_at = CASE WHEN ends.last_error = '' THEN message.last_error_at ELSE statement_timestamp() END,
        completed_at = CASE WHEN ends.state IN (3, 5) THEN statement_timestamp() END
    FROM rows ends (
        conversation_id uuid, tenant_id text, message_id uuid, state smallint, attempts smallint, last_error text,
        terminal_reason text
    )
    JOIN settled ON settled.lane_id = ends.conversation_id
    WHERE message.tenant_id = ends.tenant_id AND message.message_id = ends.message_id
        AND message.message_id BETWEEN $10 AND $11
), replied AS (
    INSERT INTO dialog.replies AS reply (turn_id, index, delivery_id, state, error)
    SELECT turn_id, place, delivery_id, state, error
    FROM rows replies (
        conversation_id uuid, turn_id uuid, place int, delivery_id uuid, state smallint, error text
    )
    JOIN settled ON settled.lane_id = replies.conversation_id
    -- Delivery may have told of the reply already.
    ON CONFLICT (turn_id, index) DO UPDATE SET delivery_id = excluded.delivery_id, state = excluded.state
    WHERE reply.delivery_id IS DISTINCT FROM excluded.delivery_id
)
SELECT lane_id, pending FROM settled;

-- name: end_timer
-- Ends the leases ($1-$9 as `settle` takes them) of lanes of tenant $10 whose timers were due, with the ends of forms that
-- nobody has answered.
WITH settled AS (
    {settle}
), ended AS (
    INSERT INTO dialog.dialog_outcomes (
        turn_id, tenant_id, bot_id, channel_id, conversation_id, completed, dropoff_step, message_count, duration,
        ended_at
    )
    SELECT turn_id, $10::text, bot_id, channel_id, conversation_id, completed, dropoff_step, message_count, duration, ended_at
    FROM rows ends (
        conversation_id uuid, turn_id uuid, bot_id text, channel_id text, completed bool, dropoff_step text,
        message_count int, duration interval, ended_at timestamptz
    )
    JOIN settled ON settled.lane_id = conversation_id
    ON CONFLICT (turn_id) DO NOTHING
)
SELECT lane_id, pending FROM settled;

-- name: lock_disabled
-- Those of the bots that are disabled, for as long as the transaction lasts: enabling one waits for it.
SELECT tenant_id, bot_id FROM dialog.bots
WHERE NOT enabled AND (tenant_id, bot_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))
ORDER BY tenant_id, bot_id
FOR SHARE;

-- name: park_more
-- Parks up to $4 more lanes of the shares $3 that are due and whose first message waits for the same disabled bot, which is locked. A turn
-- that was planned is still carried out.
UPDATE dialog.lanes SET parked = $2, due_at = NULL, losses = 0, updated_at = statement_timestamp()
WHERE lane_id = ANY (ARRAY(
    SELECT lane.lane_id
    FROM dialog.lanes AS lane
    JOIN dialog.messages AS head ON head.conversation_id = lane.lane_id AND head.seq = lane.done_seq + 1
    WHERE lane.tenant_id = $1 AND lane.share = ANY ($3::text[]) AND lane.due_at > '-infinity' AND lane.lease_until IS NULL
        AND lane.priority = 0 AND lane.mode = 0 AND lane.due_at <= statement_timestamp() AND head.bot_id = $2
        AND NOT EXISTS (
            SELECT FROM dialog.turns AS turn
            WHERE turn.conversation_id = lane.lane_id AND turn.last_seq > lane.done_seq AND turn.state = 2
        )
    ORDER BY lane.due_at
    LIMIT $4
    FOR UPDATE OF lane SKIP LOCKED
));

-- name: mark_broken
-- Unless the bot was changed since the turn was decided.
UPDATE dialog.bots SET broken_reason = $4, stamp = nextval('dialog.bot_stamps'), updated_at = now()
WHERE tenant_id = $1 AND bot_id = $2 AND revision = $3 AND broken_reason <> $4;
