-- Deliveries and the provider's ids of them are kept in stretches of time, so that old ones are dropped whole: by
-- delivery_id, a UUID version 7, whose order is that of time. What was stored until now is the first stretch; `_rest`
-- takes what no stretch is for, so that nothing is ever refused. Further stretches are made by
-- services/runtime/partitions.py.
SET LOCAL maintenance_work_mem = '256MB';

-- Request ids of the last 30 days: the guarantee that a message is stored once is this table's primary key. The request
-- id first: on a table that has not been analysed yet, a key that begins with the tenant looks as good as any other.
CREATE TABLE delivery.dedupe (
    request_id  text        NOT NULL,
    tenant_id   text        NOT NULL,
    delivery_id uuid        NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0.05);

INSERT INTO delivery.dedupe
SELECT request_id, tenant_id, delivery_id, created_at FROM delivery.deliveries
WHERE created_at > now() - interval '30 days';

ALTER TABLE delivery.dedupe ADD PRIMARY KEY (request_id, tenant_id);
CREATE INDEX dedupe_by_age ON delivery.dedupe (created_at);

ALTER TABLE delivery.deliveries RENAME TO deliveries_first;
ALTER TABLE delivery.deliveries_first RENAME CONSTRAINT deliveries_pkey TO deliveries_first_pkey;
ALTER TABLE delivery.deliveries_first DROP CONSTRAINT deliveries_once, DROP CONSTRAINT deliveries_in_lane;
ALTER INDEX delivery.deliveries_by_message RENAME TO deliveries_first_by_message;
CREATE TABLE delivery.deliveries (
    LIKE delivery.deliveries_first INCLUDING DEFAULTS,
    PRIMARY KEY (delivery_id, tenant_id)
) PARTITION BY RANGE (delivery_id);
-- Places in a lane are taken under its lock, which keeps them apart; no index over stretches could.
CREATE INDEX deliveries_in_lane ON delivery.deliveries (lane_id, seq);
CREATE INDEX deliveries_by_message ON delivery.deliveries (message_id) WHERE message_id IS NOT NULL;
-- Pages of what operators list.
CREATE INDEX deliveries_by_tenant ON delivery.deliveries (tenant_id, delivery_id);
CREATE INDEX deliveries_by_channel ON delivery.deliveries (channel_id, delivery_id);
CREATE TABLE delivery.deliveries_rest PARTITION OF delivery.deliveries DEFAULT WITH (fillfactor = 50);

ALTER TABLE delivery.provider_ids RENAME TO provider_ids_first;
ALTER TABLE delivery.provider_ids_first DROP CONSTRAINT provider_ids_pkey;
CREATE TABLE delivery.provider_ids (
    LIKE delivery.provider_ids_first INCLUDING DEFAULTS,
    PRIMARY KEY (channel_key, provider_message_id, delivery_id)
) PARTITION BY RANGE (delivery_id);
CREATE TABLE delivery.provider_ids_rest PARTITION OF delivery.provider_ids DEFAULT;

-- The first stretch of each ends with the present one, or with the next when that is less than a day away. Ids beyond
-- it (of a clock that was far ahead) go to the rest.
DO $$
DECLARE
    item text;
    columns text;
    bound uuid := rpad(lpad(to_hex((floor(extract(epoch FROM now() + interval '1 day') / 86400 / 7) + 1)::bigint
        * 7 * 86400000), 12, '0'), 32, '0')::uuid;
BEGIN
    FOREACH item IN ARRAY ARRAY['deliveries', 'provider_ids'] LOOP
        SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO columns FROM pg_attribute
            WHERE attrelid = format('delivery.%I', item)::regclass AND attnum > 0 AND NOT attisdropped;
        EXECUTE format('WITH moved AS (DELETE FROM delivery.%1$I WHERE delivery_id >= %2$L RETURNING %3$s)
            INSERT INTO delivery.%4$I (%3$s) SELECT * FROM moved', item || '_first', bound, columns, item || '_rest');
        EXECUTE format('ALTER TABLE delivery.%1$I ATTACH PARTITION delivery.%2$I FOR VALUES FROM (MINVALUE) TO (%3$L)',
            item, item || '_first', bound);
    END LOOP;
END
$$;

-- How far each task of upkeep has come, and what it has removed so far.
CREATE TABLE delivery.upkeep (
    task    text        PRIMARY KEY,
    reached uuid,                           -- where the next step goes on; NULL: at the start
    removed bigint      NOT NULL DEFAULT 0, -- rows, since the beginning
    detail  text        NOT NULL DEFAULT '',
    done_at timestamptz NOT NULL DEFAULT now()
);
