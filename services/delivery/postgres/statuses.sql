-- name: keep
-- Keeps a status, once per key. One without a part is looked for again in ten seconds, if nobody finds it before.
INSERT INTO delivery.statuses (
    channel_key, dedupe_key, provider_message_id, external_id, status, at, error, sealed_error, word, matched, look_at
)
VALUES ($1, $2, $3, $4, $5, $6, '', $7, $8, $9, CASE WHEN NOT $9 THEN now() + interval '10 seconds' END)
ON CONFLICT (channel_key, dedupe_key) DO NOTHING
RETURNING true;

-- name: early
-- Those of a channel's messages about which statuses have come too early.
SELECT DISTINCT status.channel_key, status.provider_message_id
FROM unnest($1::int[], $2::text[]) AS id (channel_key, provider_message_id)
JOIN delivery.statuses AS status USING (channel_key, provider_message_id)
WHERE NOT status.matched;

-- name: unmatched
-- What was said of one message before its part was known, in its order.
SELECT dedupe_key, external_id, status, at, error, sealed_error, word
FROM delivery.statuses
WHERE channel_key = $1 AND provider_message_id = $2 AND NOT matched
ORDER BY at, status
FOR UPDATE;

-- name: look
-- Up to $1 statuses that nobody could place yet, and whether their part is known by now. Each is looked at when it is 10
-- seconds, one minute, eight minutes, an hour, seven hours and two days old: most are of messages of other systems.
UPDATE delivery.statuses AS status SET look_at = now() + 6 * (now() - received_at)
WHERE ctid = ANY (ARRAY(  -- they are locked, so they stay where they are; a join may read the whole table
    SELECT ctid FROM delivery.statuses
    WHERE NOT matched AND look_at <= now() ORDER BY look_at LIMIT $1
    FOR UPDATE SKIP LOCKED
))
RETURNING channel_key, provider_message_id, external_id, external_id <> '' OR EXISTS (
    SELECT FROM delivery.provider_ids AS known
    WHERE known.channel_key = status.channel_key AND known.provider_message_id = status.provider_message_id
) AS known;

-- name: matched
-- Statuses have had their effect; what they said stands with the part.
UPDATE delivery.statuses SET matched = true, error = '', sealed_error = NULL, look_at = NULL
WHERE channel_key = $1 AND dedupe_key = ANY ($2::text[]);

-- name: expire
-- Forgets up to $1 that are older than the providers' own repeats.
DELETE FROM delivery.statuses WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM delivery.statuses WHERE received_at < now() - interval '7 days' LIMIT $1
))
RETURNING true;

-- name: find
-- The part that has a provider's id: of the newest delivery, if it was given twice.
SELECT delivery_id, part FROM delivery.provider_ids WHERE channel_key = $1 AND provider_message_id = $2
ORDER BY delivery_id DESC LIMIT 1;

-- name: name
-- A part has a provider's id, as one of its statuses says.
INSERT INTO delivery.provider_ids (channel_key, provider_message_id, delivery_id, part) VALUES ($1, $2, $3, $4)
ON CONFLICT (channel_key, provider_message_id, delivery_id) DO NOTHING
RETURNING true;

-- name: lock
-- A delivery of a channel, for a change.
SELECT {columns} FROM delivery.deliveries AS delivery
WHERE ($1::text IS NULL OR tenant_id = $1) AND delivery_id = $2 AND ($3::int IS NULL OR channel_key = $3)
FOR UPDATE;

-- name: waits
-- Whether a delivery keeps its place in its lane: not when it is behind what is done, and not while a worker has the
-- lane, who counts it as done when he goes on.
SELECT done_seq < $2 AND lease_until IS NULL FROM delivery.lanes WHERE lane_id = $1 FOR UPDATE;

-- name: requeue
-- A delivery waits again, with its new place and the trace of who wanted it.
UPDATE delivery.deliveries SET lane_id = $3, seq = $4, traceparent = $5, tracestate = $6
WHERE tenant_id = $1 AND delivery_id = $2;
