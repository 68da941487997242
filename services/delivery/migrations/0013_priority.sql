-- Whether somebody waits for a delivery (1, a reply) or nobody does (2, a broadcast).
ALTER TABLE delivery.deliveries ADD COLUMN priority smallint NOT NULL DEFAULT 1;
