-- name: tenants
-- Who sends, and whose deliveries there are though their channels are gone. Large tables are read at one entry of an index
-- for each tenant.
SELECT tenant_id FROM delivery.channels
UNION {tenants_in_deliveries}
UNION {tenants_in_dead}
ORDER BY tenant_id;

-- name: deliveries
-- Up to $1 deliveries of tenant $2 that are older than $3, with nothing left to send or to tell. One that has changed
-- since it was chosen, as an operator sends it again, stays: the comparison is made again under the row's lock.
WITH old AS MATERIALIZED (
    SELECT item.delivery_id, item.revision, item.lane_id, item.seq FROM delivery.deliveries AS item
    WHERE item.tenant_id = $2 AND item.delivery_id < $3::uuid
        AND NOT EXISTS (
            SELECT FROM delivery.lanes AS lane
            WHERE lane.lane_id = item.lane_id AND lane.pending > 0 AND item.seq > lane.done_seq
        )
        AND NOT EXISTS (SELECT FROM delivery.outcomes AS outcome WHERE outcome.delivery_id = item.delivery_id)
    ORDER BY item.delivery_id LIMIT $1
), gone AS (
    DELETE FROM delivery.deliveries AS item USING old
    WHERE item.tenant_id = $2 AND item.delivery_id < $3::uuid AND item.delivery_id = old.delivery_id
        AND (item.revision, item.lane_id, item.seq) = (old.revision, old.lane_id, old.seq)
    RETURNING item.delivery_id
), nameless AS (
    DELETE FROM delivery.provider_ids
    WHERE delivery_id >= (SELECT delivery_id FROM gone ORDER BY delivery_id LIMIT 1)
        AND delivery_id <= (SELECT delivery_id FROM gone ORDER BY delivery_id DESC LIMIT 1)
        AND (delivery_id IN (SELECT delivery_id FROM gone)) IS TRUE  -- looked up in a hash: a join may compare all pairs
)
SELECT count(*) FROM gone;

-- name: dead
-- Of the $2 dead letters of tenant $3 after $1, those whose delivery is not kept any more.
WITH near AS MATERIALIZED (
    SELECT delivery_id FROM delivery.dead WHERE tenant_id = $3 AND delivery_id > $1 ORDER BY delivery_id LIMIT $2
), gone AS (
    DELETE FROM delivery.dead AS letter USING near
    WHERE letter.tenant_id = $3 AND letter.delivery_id = near.delivery_id AND NOT EXISTS (
        SELECT FROM delivery.deliveries AS item WHERE item.delivery_id = near.delivery_id AND item.tenant_id = $3
    )
    RETURNING 1
)
SELECT
    (SELECT count(*) FROM near) AS walked,
    (SELECT delivery_id FROM near ORDER BY delivery_id DESC LIMIT 1) AS last,
    (SELECT count(*) FROM gone) AS removed;

-- name: dedupe
-- Up to $1 request ids from before $2.
WITH gone AS (
    DELETE FROM delivery.dedupe WHERE (request_id, tenant_id) IN (
        SELECT request_id, tenant_id FROM delivery.dedupe WHERE created_at < $2 ORDER BY created_at LIMIT $1
    )
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: deleted_channels
-- Up to $1 channels that were deleted before $2.
WITH gone AS (
    DELETE FROM delivery.deleted_channels WHERE channel_key = ANY (ARRAY(
        SELECT channel_key FROM delivery.deleted_channels WHERE deleted_at < $2 LIMIT $1
    ))
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: lanes
-- Of the $2 lanes after $1, those that have been silent since $3 and have nothing left: then a new one may begin at 1.
WITH near AS MATERIALIZED (
    SELECT lane_id FROM delivery.lanes WHERE lane_id > $1 ORDER BY lane_id LIMIT $2
), gone AS (
    DELETE FROM delivery.lanes AS lane USING near
    WHERE lane.lane_id = near.lane_id AND lane.pending = 0 AND lane.lease_until IS NULL AND lane.updated_at < $3
        AND NOT EXISTS (SELECT FROM delivery.deliveries AS item WHERE item.lane_id = lane.lane_id)
    RETURNING 1
)
SELECT
    (SELECT count(*) FROM near) AS walked,
    (SELECT lane_id FROM near ORDER BY lane_id DESC LIMIT 1) AS last,
    (SELECT count(*) FROM gone) AS removed;
