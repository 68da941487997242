-- name: insert
INSERT INTO dialog.tenants (tenant_id, display_name, time_zone, default_region) VALUES ($1, $2, $3, $4) RETURNING *;

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
