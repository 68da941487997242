-- name: tenants
-- All of whom anything is kept, whether or not they are known as tenants, and what they say of it. Each table is read at
-- one entry of its index for each tenant.
SELECT tenant_id, tenant.messages_days, tenant.journal_days, tenant.orders_days
FROM (
    SELECT tenant_id FROM dialog.tenants
    UNION {tenants_in_messages}
    UNION {tenants_in_conversations}
    UNION {tenants_in_dialog_outcomes}
    UNION {tenants_in_orders}
) AS found LEFT JOIN dialog.tenants AS tenant USING (tenant_id)
ORDER BY tenant_id;

-- name: messages
-- Up to $1 messages of tenant $2 that are older than $3 and wait for nothing, with all that belongs to them. One that has
-- got another place in its lane since it was chosen, as an operator retries it, stays: the comparison is made again under
-- the row's lock.
WITH old AS MATERIALIZED (
    SELECT item.message_id, item.seq FROM dialog.messages AS item
    WHERE item.tenant_id = $2 AND item.message_id < $3::uuid AND NOT EXISTS (
        SELECT FROM dialog.lanes AS lane
        WHERE lane.lane_id = item.conversation_id AND lane.pending > 0 AND item.seq > lane.done_seq
    )
    ORDER BY item.message_id LIMIT $1
), gone AS (
    DELETE FROM dialog.messages AS item USING old
    WHERE item.tenant_id = $2 AND item.message_id < $3::uuid AND item.message_id = old.message_id
        AND item.seq IS NOT DISTINCT FROM old.seq
    RETURNING item.conversation_id, item.message_id
), answered AS (
    DELETE FROM dialog.turns AS turn USING gone
    WHERE turn.conversation_id = gone.conversation_id AND turn.message_id = gone.message_id
    RETURNING turn.turn_id
), replied AS (
    DELETE FROM dialog.replies AS reply USING answered WHERE reply.turn_id = answered.turn_id
), journaled AS (
    DELETE FROM dialog.journal AS step USING answered WHERE step.turn_id = answered.turn_id
)
SELECT count(*) FROM gone;

-- name: outcomes
-- Up to $1 ends of dialogs of tenant $2 from before $3.
WITH gone AS (
    DELETE FROM dialog.dialog_outcomes WHERE turn_id = ANY (ARRAY(
        SELECT turn_id FROM dialog.dialog_outcomes WHERE tenant_id = $2 AND ended_at < $3 ORDER BY ended_at LIMIT $1
    ))
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: conversations
-- Up to $1 conversations of tenant $2 that have been silent since $3.
WITH gone AS (
    DELETE FROM dialog.conversations AS known WHERE known.active_at < $3 AND known.conversation_id = ANY (ARRAY(
        SELECT conversation_id FROM dialog.conversations AS silent
        WHERE tenant_id = $2 AND active_at < $3
            AND NOT EXISTS (SELECT FROM dialog.lanes WHERE lane_id = silent.conversation_id AND pending > 0)
        ORDER BY active_at, conversation_id LIMIT $1
    ))
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: orders
-- Up to $1 orders of tenant $2 that are older than $3.
WITH gone AS (
    DELETE FROM dialog.orders WHERE tenant_id = $2 AND order_id = ANY (ARRAY(
        SELECT order_id FROM dialog.orders WHERE tenant_id = $2 AND order_id < $3::uuid ORDER BY order_id LIMIT $1
    ))
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: api_keys
-- Up to $1 keys that have been revoked or over since $2.
WITH gone AS (
    DELETE FROM dialog.api_keys WHERE key_id = ANY (ARRAY(
        SELECT key_id FROM dialog.api_keys WHERE least(revoked_at, expires_at) < $2 LIMIT $1
    ))
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: journal
-- Of the $2 journaled calls after $1 and before $6, those whose turn is over and that are older than $4 says of their
-- tenant in $3, or than $5 of the others.
WITH near AS MATERIALIZED (
    SELECT turn_id, step, try, tenant_id FROM dialog.journal
    WHERE turn_id >= $1 AND turn_id < $6::uuid ORDER BY turn_id, step, try LIMIT $2
), old AS MATERIALIZED (
    SELECT near.* FROM near
    LEFT JOIN unnest($3::text[], $4::uuid[]) AS says (tenant_id, before) USING (tenant_id)
    WHERE near.turn_id < coalesce(says.before, $5::uuid) AND NOT near.turn_id IN (
        SELECT open.turn_id FROM dialog.lanes AS lane
        JOIN dialog.turns AS open ON open.conversation_id = lane.lane_id AND open.last_seq > lane.done_seq
        WHERE lane.pending > 0
    )
), gone AS (
    DELETE FROM dialog.journal AS known USING old
    WHERE (known.turn_id, known.step, known.try) = (old.turn_id, old.step, old.try) AND known.turn_id < $6::uuid
    RETURNING 1
)
SELECT
    (SELECT count(*) FROM near) AS walked,
    (SELECT turn_id FROM near ORDER BY turn_id DESC LIMIT 1) AS last,
    (SELECT count(*) FROM gone) AS removed;

-- name: lanes
-- Of the $2 lanes after $1, those that have been silent since $3, have nothing left and no timer, and are answered by
-- their bot: then a new one may begin at 1.
WITH near AS MATERIALIZED (
    SELECT lane_id FROM dialog.lanes WHERE lane_id > $1 ORDER BY lane_id LIMIT $2
), gone AS (
    DELETE FROM dialog.lanes AS lane USING near
    WHERE lane.lane_id = near.lane_id AND lane.pending = 0 AND lane.lease_until IS NULL AND lane.updated_at < $3
        AND lane.timer_at IS NULL AND lane.mode = 0
        AND NOT EXISTS (SELECT FROM dialog.messages AS message WHERE message.conversation_id = lane.lane_id)
        AND NOT EXISTS (SELECT FROM dialog.turns AS turn WHERE turn.conversation_id = lane.lane_id)
    RETURNING 1
)
SELECT
    (SELECT count(*) FROM near) AS walked,
    (SELECT lane_id FROM near ORDER BY lane_id DESC LIMIT 1) AS last,
    (SELECT count(*) FROM gone) AS removed;
