-- name: sweep
-- Ends up to $1 dialogs that were left in silence; how many it looked at. A dialog is over when nothing waits in its
-- lane and its last turn ended longer ago than it is remembered: then the next message begins a new one. One that went on
-- meanwhile, or may, is looked at again later.
WITH due AS MATERIALIZED (
    SELECT * FROM dialog.open_forms
    WHERE due_at <= statement_timestamp()
    ORDER BY due_at LIMIT $1
    FOR UPDATE SKIP LOCKED
), judged AS MATERIALIZED (
    SELECT due.conversation_id, greatest(
        lane.updated_at + due.ttl + interval '1 minute',
        CASE WHEN lane.pending > 0 THEN statement_timestamp() + interval '10 minutes' END
    ) AS later
    FROM due LEFT JOIN dialog.lanes AS lane ON lane.lane_id = due.conversation_id
), put_off AS (
    UPDATE dialog.open_forms AS form SET due_at = date_trunc('minute', judged.later) + interval '1 minute'
    FROM judged
    WHERE form.conversation_id = judged.conversation_id AND judged.later > statement_timestamp()
), over AS (
    DELETE FROM dialog.open_forms AS form USING judged
    WHERE form.conversation_id = judged.conversation_id
        AND coalesce(judged.later, '-infinity') <= statement_timestamp()
    RETURNING form.*
), written AS (
    INSERT INTO dialog.dialog_outcomes (
        turn_id, tenant_id, bot_id, channel_id, conversation_id, completed, dropoff_step, message_count, duration,
        ended_at
    )
    SELECT turn_id, tenant_id, bot_id, channel_id, conversation_id, false, step, message_count, active_at - started_at,
        active_at
    FROM over
    ON CONFLICT (turn_id) DO NOTHING
)
SELECT count(*) FROM judged;
