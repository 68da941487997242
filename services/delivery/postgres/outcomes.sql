-- name: older
-- What has waited for longer than it takes to tell: its process died, or dialog was away.
SELECT outcome_id, outcome.tenant_id, delivery_id, message_id, reply_index, outcome.state, at, error, traceparent,
    tracestate
FROM delivery.outcomes AS outcome JOIN delivery.deliveries AS delivery USING (tenant_id, delivery_id)
WHERE outcome.created_at < now() - $1::interval
ORDER BY outcome_id
LIMIT $2;

-- name: forget
-- Dialog knows these. Losing this commit costs a repeat, which changes nothing there.
DELETE FROM delivery.outcomes USING (SELECT set_config('synchronous_commit', 'off', true)) AS unhurried
WHERE outcome_id = ANY ($1::bigint[]);
