-- name: begin
-- Notes that calls are about to be made, for lanes that are still held ($1, $2); returns the steps of those. A step that
-- is done gives its result, and nothing is begun.
WITH held AS MATERIALIZED (
    {hold}
), item AS MATERIALIZED (
    SELECT steps.* FROM {steps} JOIN held ON held.lane_id = steps.conversation_id
), known AS MATERIALIZED (
    {known}
), frozen AS (
    {freeze}
), begun AS (
    INSERT INTO dialog.journal (turn_id, step, try, tenant_id, request_sha256, state)
    SELECT turn_id, step, {next_try}, tenant_id, request_sha256, 1
    FROM item WHERE NOT EXISTS (SELECT FROM known WHERE (known.turn_id, known.step) = (item.turn_id, item.step))
    RETURNING turn_id, step, try
)
SELECT turn_id, step, begun.try, known.result, known.sealed_result, known.request_sha256
FROM item LEFT JOIN begun USING (turn_id, step) LEFT JOIN known USING (turn_id, step);

-- name: act
-- As `begin`, for steps that write rows of ours: these and the results are written together, once. Orders of acts are
-- numbered below zero, apart from those of the turn's plan.
WITH held AS MATERIALIZED (
    {hold}
), item AS MATERIALIZED (
    SELECT steps.* FROM {steps} JOIN held ON held.lane_id = steps.conversation_id
), known AS MATERIALIZED (
    {known}
), frozen AS (
    {freeze}
), acted AS (
    INSERT INTO dialog.journal (turn_id, step, try, tenant_id, request_sha256, state, sealed_result, ended_at)
    SELECT turn_id, step, {next_try}, tenant_id, request_sha256, 2, item.sealed_result, statement_timestamp()
    FROM item WHERE NOT EXISTS (SELECT FROM known WHERE (known.turn_id, known.step) = (item.turn_id, item.step))
    -- A commit whose answer was lost may still be under way. Then nothing is written, and the next look finds it.
    ON CONFLICT (turn_id, step, try) DO NOTHING
    RETURNING turn_id, step, try
), ordered AS (
    INSERT INTO dialog.orders (
        tenant_id, order_id, turn_id, index, bot_id, channel_id, conversation_id, contact_id, message_id, form_id,
        fields, created_at
    )
    SELECT
        tenant_id, order_id, turn_id,
        (SELECT least(0, min(before.index)) FROM dialog.orders AS before WHERE before.turn_id = item.turn_id)
            - row_number() OVER (PARTITION BY turn_id ORDER BY order_id),
        bot_id, channel_id, conversation_id, contact_id, message_id, form_id, fields, statement_timestamp()
    FROM rows orders (turn_id uuid, step text, order_id uuid, form_id text, fields jsonb)
    JOIN acted USING (turn_id, step) JOIN item USING (turn_id, step)
)
SELECT turn_id, step, acted.try, known.result, known.sealed_result, known.request_sha256
FROM item LEFT JOIN acted USING (turn_id, step) LEFT JOIN known USING (turn_id, step);

-- name: end
UPDATE dialog.journal SET
    state = $4, sealed_result = $5, error = $6, ended_at = statement_timestamp(),
    model = $7, input_tokens = $8, output_tokens = $9, price_micros_usd = $10
WHERE turn_id = $1 AND step = $2 AND try = $3;

-- name: steps
rows steps (
    conversation_id uuid, turn_id uuid, step text, tenant_id text, request_sha256 bytea, last_seq bigint,
    first_seq bigint, message_id uuid, inputs bytea, started_at timestamptz, bot_id text, channel_id text,
    contact_id uuid, sealed_result bytea
);

-- name: known
SELECT DISTINCT ON (turn_id, step) turn_id, step, done.result, done.sealed_result, done.request_sha256
FROM item JOIN dialog.journal AS done USING (turn_id, step)
WHERE done.state = 2
ORDER BY turn_id, step, done.try;

-- name: freeze
-- The inputs of a turn are those of its first step.
INSERT INTO dialog.turns (
    conversation_id, last_seq, first_seq, turn_id, tenant_id, message_id, state, inputs, started_at
)
SELECT conversation_id, last_seq, first_seq, turn_id, tenant_id, message_id, 1, inputs, started_at FROM item
ON CONFLICT (conversation_id, last_seq, message_id) DO NOTHING;

-- name: next_try
1 + (SELECT count(*) FROM dialog.journal AS tried WHERE tried.turn_id = item.turn_id AND tried.step = item.step);
