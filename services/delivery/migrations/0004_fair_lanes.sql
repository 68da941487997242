-- Lanes have shares of a worker's places, by tenant and channel; they may be parked, with no due time; and they remember how
-- often they were lost and put off (see services/runtime/lanes/schema.sql).
ALTER TABLE delivery.lanes
    ADD COLUMN share text NOT NULL DEFAULT '',
    ADD COLUMN parked text,
    ADD COLUMN losses smallint NOT NULL DEFAULT 0,
    ADD COLUMN delays smallint NOT NULL DEFAULT 0,
    DROP CONSTRAINT lanes_due,
    ADD CONSTRAINT lanes_due CHECK ((pending > 0 AND parked IS NULL) = (due_at IS NOT NULL)),
    ADD CONSTRAINT lanes_parked CHECK (parked IS NULL OR (pending > 0 AND lease_until IS NULL));

-- What waits already.
UPDATE delivery.lanes AS lane SET share = head.channel_key::text
FROM delivery.deliveries AS head
WHERE lane.due_at IS NOT NULL AND head.lane_id = lane.lane_id AND head.seq = lane.done_seq + 1;

-- With a condition of its own, so that no plan takes this index for the one in the order of due times.
CREATE INDEX lanes_by_share ON delivery.lanes (tenant_id, share, due_at) WHERE due_at > '-infinity';
CREATE INDEX lanes_parked_for ON delivery.lanes (tenant_id, parked, lane_id) WHERE parked IS NOT NULL;
