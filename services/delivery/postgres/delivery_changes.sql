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
