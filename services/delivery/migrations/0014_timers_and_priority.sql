-- Lanes hold timers, and what can wait comes after what somebody waits for (see services/runtime/lanes/schema.sql).
ALTER TABLE delivery.lanes
    ADD COLUMN priority smallint NOT NULL DEFAULT 0,
    ADD COLUMN mode smallint NOT NULL DEFAULT 0,
    ADD COLUMN timer_at timestamptz,
    ADD COLUMN timers text NOT NULL DEFAULT '',
    DROP CONSTRAINT lanes_due,
    ADD CONSTRAINT lanes_due CHECK ((parked IS NULL AND (pending > 0 OR timer_at IS NOT NULL)) = (due_at IS NOT NULL));

DROP INDEX delivery.lanes_claimable, delivery.lanes_by_share;
CREATE INDEX lanes_claimable ON delivery.lanes (priority, due_at) WHERE due_at < 'infinity';
CREATE INDEX lanes_by_share ON delivery.lanes (tenant_id, share, due_at) WHERE due_at > '-infinity' AND priority = 0;
CREATE INDEX lanes_patient ON delivery.lanes (tenant_id, due_at) WHERE isfinite(due_at) AND priority = 1;
