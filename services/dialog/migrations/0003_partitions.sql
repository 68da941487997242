-- What grows with every message is kept in stretches of time, so that old ones are dropped whole: messages and their
-- turns by message_id, replies and the journal by turn_id. Both are UUIDs version 7, whose order is that of time. What
-- was stored until now is the first stretch; `_rest` takes what no stretch is for, so that nothing is ever refused.
-- Further stretches are made by services/runtime/partitions.py.
SET LOCAL maintenance_work_mem = '256MB';

-- Dedupe keys of the last seven days: the guarantee that a message is taken once is this table's primary key.
CREATE TABLE dialog.dedupe (
    dedupe_id       uuid        NOT NULL, -- hash of tenant, channel and dedupe key
    message_id      uuid        NOT NULL,
    conversation_id uuid        NOT NULL,
    received_at     timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05);

INSERT INTO dialog.dedupe
SELECT dedupe_id, message_id, conversation_id, received_at FROM dialog.messages WHERE dedupe_id IS NOT NULL;

ALTER TABLE dialog.dedupe ADD PRIMARY KEY (dedupe_id);
CREATE INDEX dedupe_by_age ON dialog.dedupe (received_at);

ALTER TABLE dialog.messages RENAME TO messages_first;
ALTER TABLE dialog.messages_first RENAME CONSTRAINT messages_pkey TO messages_first_pkey;
DROP INDEX dialog.messages_once, dialog.messages_in_lane, dialog.messages_in_trouble, dialog.messages_by_age;
ALTER TABLE dialog.messages_first DROP COLUMN dedupe_id;

CREATE TABLE dialog.messages (
    LIKE dialog.messages_first INCLUDING DEFAULTS INCLUDING GENERATED,
    PRIMARY KEY (tenant_id, message_id)
) PARTITION BY RANGE (message_id);
-- Places in a lane are taken under its lock, which keeps them apart; no index over stretches could.
CREATE INDEX messages_in_lane ON dialog.messages (conversation_id, seq) WHERE seq IS NOT NULL;
CREATE INDEX messages_in_trouble ON dialog.messages (trouble, tenant_id, message_id) WHERE trouble IS NOT NULL;
CREATE INDEX messages_by_conversation ON dialog.messages (conversation_id, message_id);
CREATE INDEX messages_by_channel ON dialog.messages (channel_id, message_id);
CREATE TABLE dialog.messages_rest PARTITION OF dialog.messages DEFAULT
    WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);

-- A place belongs to one message, so (conversation_id, last_seq) stays as unique as it was.
ALTER TABLE dialog.turns RENAME TO turns_first;
ALTER TABLE dialog.turns_first DROP CONSTRAINT turns_pkey;
CREATE TABLE dialog.turns (
    LIKE dialog.turns_first INCLUDING DEFAULTS,
    PRIMARY KEY (conversation_id, last_seq, message_id)
) PARTITION BY RANGE (message_id);
CREATE TABLE dialog.turns_rest PARTITION OF dialog.turns DEFAULT WITH (fillfactor = 95);

ALTER TABLE dialog.replies RENAME TO replies_first;
ALTER TABLE dialog.replies_first RENAME CONSTRAINT replies_pkey TO replies_first_pkey;
CREATE TABLE dialog.replies (
    LIKE dialog.replies_first INCLUDING DEFAULTS,
    PRIMARY KEY (turn_id, index)
) PARTITION BY RANGE (turn_id);
CREATE TABLE dialog.replies_rest PARTITION OF dialog.replies DEFAULT
    WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

ALTER TABLE dialog.journal RENAME TO journal_first;
ALTER TABLE dialog.journal_first RENAME CONSTRAINT journal_pkey TO journal_first_pkey;
CREATE TABLE dialog.journal (
    LIKE dialog.journal_first INCLUDING DEFAULTS,
    PRIMARY KEY (turn_id, step, try)
) PARTITION BY RANGE (turn_id);
CREATE TABLE dialog.journal_rest PARTITION OF dialog.journal DEFAULT WITH (fillfactor = 80);

-- The first stretch of each ends with the present one, or with the next when that is less than a day away. Ids beyond
-- it (of a clock that was far ahead) go to the rest.
DO $$
DECLARE
    item record;
    columns text;
    bound uuid;
BEGIN
    FOR item IN SELECT * FROM (VALUES
        ('messages', 'message_id', 28), ('turns', 'message_id', 28), ('replies', 'turn_id', 28), ('journal', 'turn_id', 7)
    ) AS listed (name, key, days) LOOP
        SELECT rpad(lpad(to_hex((floor(extract(epoch FROM now() + interval '1 day') / 86400 / item.days) + 1)::bigint
            * item.days * 86400000), 12, '0'), 32, '0')::uuid INTO bound;
        SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO columns FROM pg_attribute
            WHERE attrelid = format('dialog.%I', item.name)::regclass AND attnum > 0 AND NOT attisdropped
                AND attgenerated = '';
        EXECUTE format('WITH moved AS (DELETE FROM dialog.%1$I WHERE %2$I >= %3$L RETURNING %4$s)
            INSERT INTO dialog.%5$I (%4$s) SELECT * FROM moved',
            item.name || '_first', item.key, bound, columns, item.name || '_rest');
        EXECUTE format('ALTER TABLE dialog.%1$I ATTACH PARTITION dialog.%2$I FOR VALUES FROM (MINVALUE) TO (%3$L)',
            item.name, item.name || '_first', bound);
    END LOOP;
END
$$;

-- Pages of what operators list.
CREATE INDEX conversations_by_channel ON dialog.conversations (channel_id, active_at DESC, conversation_id DESC);
CREATE INDEX orders_by_bot ON dialog.orders (tenant_id, bot_id, order_id);

-- How far each task of upkeep has come, and what it has removed so far.
DROP TABLE dialog.janitor;
CREATE TABLE dialog.upkeep (
    task     text        PRIMARY KEY,
    reached  uuid,                           -- where the next step goes on; NULL: at the start
    removed  bigint      NOT NULL DEFAULT 0, -- rows, since the beginning
    detail   text        NOT NULL DEFAULT '',
    done_at  timestamptz NOT NULL DEFAULT now()
);
