-- name: keep
-- Keeps a status, once per key.
INSERT INTO delivery.statuses (
    channel_key, dedupe_key, provider_message_id, external_id, status, at, error
)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (channel_key, dedupe_key) DO NOTHING
RETURNING true;

-- name: unmatched
-- Statuses that were ahead of what they are about, or met a call under way, maybe of a process that died long ago.
SELECT status.channel_key, status.dedupe_key, channel.tenant_id, provider_message_id, external_id, status, at, error
FROM delivery.statuses AS status JOIN delivery.channels AS channel USING (channel_key)
WHERE NOT matched AND (status.received_at > now() - interval '1 minute' OR EXISTS (
    SELECT FROM delivery.provider_ids AS known
    WHERE known.channel_key = status.channel_key AND known.provider_message_id = status.provider_message_id
) OR (  -- no EXISTS: its plan may read all deliveries
    SELECT known.channel_key = status.channel_key FROM delivery.deliveries AS known
    WHERE known.tenant_id = channel.tenant_id AND known.delivery_id = CASE
        WHEN external_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}[.][0-9]+$'
        THEN split_part(external_id, '.', 1)::uuid
    END
))
ORDER BY received_at
LIMIT $1;

-- name: matched
-- A status has had its effect; what it said stands with the part.
UPDATE delivery.statuses SET matched = true, error = '' WHERE channel_key = $1 AND dedupe_key = $2;

-- name: expire
-- Forgets what is older than the providers' own repeats.
DELETE FROM delivery.statuses WHERE received_at < now() - interval '7 days';

-- name: find
-- The part that has a provider's id: of the newest delivery, if it was given twice.
SELECT delivery_id, part FROM delivery.provider_ids WHERE channel_key = $1 AND provider_message_id = $2
ORDER BY delivery_id DESC LIMIT 1;

-- name: lock
-- A delivery of a channel, for a change.
SELECT {columns} FROM delivery.deliveries AS delivery
WHERE tenant_id = $1 AND delivery_id = $2 AND ($3::int IS NULL OR channel_key = $3)
FOR UPDATE;

-- name: mark
-- When it reached the device and when it was read; the first word counts.
UPDATE delivery.deliveries
SET delivered_at = coalesce(delivered_at, $3), read_at = CASE WHEN $4 THEN coalesce(read_at, $3) ELSE read_at END
WHERE tenant_id = $1 AND delivery_id = $2;

-- name: tell
-- Dialog must hear of it.
INSERT INTO delivery.outcomes (tenant_id, delivery_id, state, at, error) VALUES ($1, $2, $3, $4, $5)
RETURNING outcome_id;

-- name: change
-- New parts of a delivery that is locked.
UPDATE delivery.deliveries
SET parts = $3::json, state = $4, tries = $5, sent_at = $6, revision = revision + 1
WHERE tenant_id = $1 AND delivery_id = $2;

-- name: bury
-- A dead letter.
INSERT INTO delivery.dead (tenant_id, delivery_id, dead_parts) VALUES ($1, $2, $3)
ON CONFLICT (tenant_id, delivery_id) DO UPDATE SET dead_parts = excluded.dead_parts;

-- name: raise
-- No dead letter any more.
DELETE FROM delivery.dead WHERE tenant_id = $1 AND delivery_id = $2;

-- name: waits
-- Whether a delivery keeps its place in its lane: not when it is behind what is done, and not while a worker has the
-- lane, who counts it as done when he goes on.
SELECT done_seq < $2 AND lease_until IS NULL FROM delivery.lanes WHERE lane_id = $1 FOR UPDATE;

-- name: requeue
-- A delivery waits again, with its new place and the trace of who wanted it.
UPDATE delivery.deliveries SET lane_id = $3, seq = $4, traceparent = $5, tracestate = $6
WHERE tenant_id = $1 AND delivery_id = $2;
