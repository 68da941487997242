-- name: get
SELECT * FROM dialog.bots WHERE tenant_id = $1 AND bot_id = $2;

-- name: list
SELECT * FROM dialog.bots WHERE tenant_id = $1 AND bot_id > $2 ORDER BY bot_id LIMIT $3;

-- name: insert
INSERT INTO dialog.bots (tenant_id, bot_id, settings) VALUES ($1, $2, $3) RETURNING *;

-- name: lock
SELECT * FROM dialog.bots WHERE tenant_id = $1 AND bot_id = $2 FOR UPDATE;

-- name: write
UPDATE dialog.bots SET
    settings = $3, enabled = $4, broken_reason = $5, revision = revision + 1,
    stamp = nextval('dialog.bot_stamps'), updated_at = now()
WHERE tenant_id = $1 AND bot_id = $2
RETURNING *;

-- name: delete
DELETE FROM dialog.bots WHERE tenant_id = $1 AND bot_id = $2;

-- name: wake
-- Makes up to $3 lanes due that are parked for a bot, and counts them. The bot's row is locked, so that a lane which is
-- being parked just now either sees what became of the bot or is seen here or later.
WITH woken AS (
    {wake}
)
SELECT count(*)::int FROM woken;

-- name: note_awakening
INSERT INTO dialog.awakenings (tenant_id, bot_id) VALUES ($1, $2) ON CONFLICT DO NOTHING;

-- name: next_awakening
-- Whoever has locked one is at it.
SELECT tenant_id, bot_id FROM dialog.awakenings ORDER BY noted_at LIMIT 1 FOR UPDATE SKIP LOCKED;

-- name: end_awakening
DELETE FROM dialog.awakenings WHERE tenant_id = $1 AND bot_id = $2;
