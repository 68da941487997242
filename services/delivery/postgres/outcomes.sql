-- name: older
-- What has waited for longer than it takes to tell: its process died, dialog was away, or it refused them and their pause
-- is over.
SELECT outcome_id, outcome.tenant_id, delivery_id, message_id, reply_index, outcome.state, at, error, traceparent,
    tracestate
FROM delivery.outcomes AS outcome JOIN delivery.deliveries AS delivery USING (tenant_id, delivery_id)
WHERE outcome.created_at < now() - $1::interval AND outcome.due_at <= now()
ORDER BY outcome_id
LIMIT $2;

-- name: refuse
-- Dialog could not take these: again after 2, 4, 8 ... s, at most an hour; after $2 tries they are given up. Returns those.
WITH refused AS (
    UPDATE delivery.outcomes SET
        tries = tries + 1, due_at = now() + least(power(2, tries + 1), 3600) * interval '1 second'
    WHERE outcome_id = ANY ($1::bigint[])
    RETURNING outcome_id, tries
)
SELECT outcome_id FROM refused WHERE tries >= $2;

-- name: forget
-- Dialog knows these. Losing this commit costs a repeat, which changes nothing there.
DELETE FROM delivery.outcomes USING (SELECT set_config('synchronous_commit', 'off', true)) AS unhurried
WHERE outcome_id = ANY ($1::bigint[]);
