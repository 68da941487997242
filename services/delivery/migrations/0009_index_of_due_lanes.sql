-- With a condition of its own, as the index by share has one, so that no plan takes it for that (see
-- services/runtime/lanes/schema.sql).
DROP INDEX delivery.lanes_claimable;
CREATE INDEX lanes_claimable ON delivery.lanes (due_at) WHERE due_at < 'infinity';
