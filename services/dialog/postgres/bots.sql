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

-- name: wake_lanes
-- Makes lanes due whose first message waits for this bot. The bot's row is locked, so that a lane which is being parked
-- just now either sees the bot enabled or is seen here.
WITH parked AS MATERIALIZED (
    SELECT lane.lane_id FROM dialog.lanes AS lane
    JOIN dialog.messages AS head ON head.conversation_id = lane.lane_id AND head.seq = lane.done_seq + 1
    WHERE lane.due_at > statement_timestamp() AND lane.lease_until IS NULL
        AND lane.tenant_id = $1 AND head.bot_id = $2 AND head.state = 1
    ORDER BY lane.lane_id
    FOR UPDATE OF lane
)
UPDATE dialog.lanes SET due_at = statement_timestamp()
WHERE lane_id = ANY (ARRAY(SELECT lane_id FROM parked)) AND lease_until IS NULL AND pending > 0;
