-- Channels. `revision` is drawn from one sequence, by one writer at a time (see postgres/channels.sql), so revisions
-- grow in the order of commit, also over a deletion and a new channel of the same id, and a watcher that has seen
-- revision n asks for what is above it.
CREATE SEQUENCE delivery.channel_revisions;

CREATE TABLE delivery.channels (
    channel_key   integer     GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel_id    text        NOT NULL CONSTRAINT channels_id UNIQUE,
    tenant_id     text        NOT NULL,
    provider      smallint    NOT NULL,
    bot_id        text        NOT NULL,
    api_base      text        NOT NULL,
    enabled       boolean     NOT NULL DEFAULT true,
    broken_reason text        NOT NULL DEFAULT '',
    token         bytea       NOT NULL,  -- sealed, bound to tenant and channel; empty when there is none
    webhook_secret bytea      NOT NULL,  -- sealed in the same way
    revision      bigint      NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX channels_by_tenant ON delivery.channels (tenant_id, channel_id);

CREATE TABLE delivery.deleted_channels (
    channel_key integer     PRIMARY KEY,
    channel_id  text        NOT NULL,
    revision    bigint      NOT NULL,
    deleted_at  timestamptz NOT NULL DEFAULT now()
);

-- One row a delivery. Its parts are slices of its text; what has happened to them stands in `parts` as JSON (NULL:
-- nothing yet), so that one try costs two updates of one row, and both are HOT: no index holds a column that they
-- change. `state` and `tries` are those of the part that is next. `revision` counts changes of progress: who changes
-- it names the one that he read.
CREATE TABLE delivery.deliveries (
    delivery_id     uuid        NOT NULL,
    conversation_id uuid        NOT NULL,
    lane_id         uuid        NOT NULL,
    seq             bigint      NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    message_id      uuid,
    channel_key     integer     NOT NULL,
    reply_index     integer     NOT NULL,
    tenant_id       text        NOT NULL,
    request_id      text        NOT NULL,
    channel_id      text        NOT NULL,
    chat_id         text        NOT NULL,
    traceparent     text        NOT NULL,
    tracestate      text        NOT NULL,
    text            text        NOT NULL,
    cuts            integer[],            -- start and end of each part, in characters; NULL: one part, the whole text
    revision        integer     NOT NULL DEFAULT 0,
    state           smallint    NOT NULL DEFAULT 1,
    tries           smallint    NOT NULL DEFAULT 0,
    sent_at         timestamptz,
    delivered_at    timestamptz,
    read_at         timestamptz,
    parts           json,
    -- The id first: on a table that has not been analysed yet, a key that begins with the tenant looks as good as any
    -- other that does, and reads all that the tenant has.
    PRIMARY KEY (delivery_id, tenant_id),
    CONSTRAINT deliveries_once UNIQUE (request_id, tenant_id),
    CONSTRAINT deliveries_in_lane UNIQUE (lane_id, seq)
) WITH (fillfactor = 50);
CREATE INDEX deliveries_by_message ON delivery.deliveries (message_id) WHERE message_id IS NOT NULL;

-- Which part a provider's status is about.
CREATE TABLE delivery.provider_ids (
    channel_key         integer  NOT NULL,
    part                smallint NOT NULL,
    delivery_id         uuid     NOT NULL,
    provider_message_id text     NOT NULL,
    PRIMARY KEY (channel_key, provider_message_id)
);

-- What dialog has not been told yet.
CREATE TABLE delivery.outcomes (
    outcome_id  bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at  timestamptz NOT NULL DEFAULT now(),
    at          timestamptz NOT NULL,
    delivery_id uuid        NOT NULL,
    state       smallint    NOT NULL,   -- of parley.dialog.v1.ReplyState
    tenant_id   text        NOT NULL,
    error       text        NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 5000);

-- Dead letters: deliveries with dead parts.
CREATE TABLE delivery.dead (
    tenant_id   text        NOT NULL,
    delivery_id uuid        NOT NULL,
    dead_parts  smallint    NOT NULL,
    died_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, delivery_id)
);

-- What providers reported, once per key, for seven days; until it is matched it may be ahead of the send's own answer.
CREATE TABLE delivery.statuses (
    channel_key         integer     NOT NULL,
    status              smallint    NOT NULL,
    matched             boolean     NOT NULL DEFAULT false,
    at                  timestamptz NOT NULL,
    received_at         timestamptz NOT NULL DEFAULT now(),
    dedupe_key          text        NOT NULL,
    provider_message_id text        NOT NULL,
    external_id         text        NOT NULL,
    error               text        NOT NULL,
    PRIMARY KEY (channel_key, dedupe_key)
);
CREATE INDEX statuses_unmatched ON delivery.statuses (received_at) WHERE NOT matched;
CREATE INDEX statuses_by_age ON delivery.statuses USING brin (received_at);

-- A lane is the queue of one conversation on a channel; a delivery that failed for too long gets one of its own. Work is
-- leased per lane, never per message.
--
-- due_at is the one time from which anyone may take the lane: when its first message may be answered, or, while it is
-- leased, when the lease runs out. It is NULL while nothing waits, so the index of what can be claimed holds busy lanes
-- only, and neither an append to a busy lane nor the bookkeeping columns touch an index.
CREATE TABLE delivery.lanes (
    lane_id      uuid        PRIMARY KEY,
    tenant_id    text        NOT NULL,
    next_seq     bigint      NOT NULL,            -- the sequence that the next message gets; the first is 1
    done_seq     bigint      NOT NULL DEFAULT 0,  -- the last sequence that is done
    pending      integer     NOT NULL,            -- next_seq - 1 - done_seq
    due_at       timestamptz,
    fence        bigint      NOT NULL DEFAULT 0,  -- grows with every lease
    holder       text        NOT NULL DEFAULT '', -- who has the lease, for people
    lease_until  timestamptz,                     -- NULL: not leased
    attempts     integer     NOT NULL DEFAULT 0,
    data_version bigint      NOT NULL DEFAULT 0,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT lanes_counts CHECK (pending >= 0 AND next_seq = done_seq + pending + 1),
    CONSTRAINT lanes_due CHECK ((pending > 0) = (due_at IS NOT NULL)),
    CONSTRAINT lanes_leased CHECK (lease_until IS NULL OR due_at = lease_until)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

CREATE INDEX lanes_claimable ON delivery.lanes (due_at) WHERE due_at IS NOT NULL;


-- Answers of mutations that may be asked again, for a day.
CREATE TABLE delivery.requests (
    tenant_id text NOT NULL,
    request_id text NOT NULL,
    method text NOT NULL,
    digest bytea NOT NULL,
    response bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, request_id)
);
