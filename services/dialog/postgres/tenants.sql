-- name: insert
INSERT INTO dialog.tenants (
    tenant_id, display_name, time_zone, default_region, messages_days, journal_days, deliveries_days,
    spans_days, orders_days
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
RETURNING *;

-- name: keep
-- Changes those of a tenant's days that $2 names.
UPDATE dialog.tenants SET
    messages_days = CASE WHEN 'messages_days' = ANY ($2::text[]) THEN $3 ELSE messages_days END,
    journal_days = CASE WHEN 'journal_days' = ANY ($2) THEN $4 ELSE journal_days END,
    deliveries_days = CASE WHEN 'deliveries_days' = ANY ($2) THEN $5 ELSE deliveries_days END,
    spans_days = CASE WHEN 'spans_days' = ANY ($2) THEN $6 ELSE spans_days END,
    orders_days = CASE WHEN 'orders_days' = ANY ($2) THEN $7 ELSE orders_days END
WHERE tenant_id = $1
RETURNING *;

-- name: get
SELECT * FROM dialog.tenants WHERE tenant_id = $1;

-- name: insert_key
INSERT INTO dialog.api_keys (key_id, tenant_id, secret_sha256, scopes, channel_id, expires_at, name)
VALUES ($1, $2, $3, $4, $5, $6, $7)
RETURNING *;

-- name: revoke_key
UPDATE dialog.api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE tenant_id = $1 AND key_id = $2 RETURNING *;

-- name: key
SELECT * FROM dialog.api_keys WHERE key_id = $1;

-- name: key_used
-- Noted once an hour at most: it is for people, who ask which keys are still in use.
UPDATE dialog.api_keys SET last_used_at = now()
WHERE key_id = $1 AND (last_used_at IS NULL OR last_used_at < now() - interval '1 hour');

-- name: keys
SELECT * FROM dialog.api_keys
WHERE tenant_id = $1 AND (created_at, key_id) < ($2, $3)
ORDER BY created_at DESC, key_id DESC LIMIT $4;
