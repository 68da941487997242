-- A lane is the queue of one conversation (see services/runtime/lanes/schema.sql, of which this is a copy). Work is
-- leased per lane, never per message.
CREATE TABLE dialog.lanes (
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

CREATE INDEX lanes_claimable ON dialog.lanes (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE dialog.tenants (
    tenant_id      text        PRIMARY KEY,
    display_name   text        NOT NULL,
    time_zone      text        NOT NULL,
    default_region text        NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE dialog.api_keys (
    key_id        text        PRIMARY KEY,
    tenant_id     text        NOT NULL REFERENCES dialog.tenants,
    secret_sha256 bytea       NOT NULL, -- of 32 random bytes, so a fast hash is enough
    scopes        smallint[]  NOT NULL,
    channel_id    text        NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz,
    revoked_at    timestamptz
);

CREATE INDEX api_keys_by_tenant ON dialog.api_keys (tenant_id, created_at DESC, key_id DESC);

-- Every change of a bot, creation too, takes a new stamp. Workers ask for the stamp whenever they claim a lane, and
-- read the bot again when it is not the one that they remember: so a change holds for the next turn in every process.
CREATE SEQUENCE dialog.bot_stamps;

CREATE TABLE dialog.bots (
    tenant_id     text        NOT NULL REFERENCES dialog.tenants,
    bot_id        text        NOT NULL,
    settings      jsonb       NOT NULL,
    enabled       boolean     NOT NULL DEFAULT true,
    broken_reason text        NOT NULL DEFAULT '',
    revision      bigint      NOT NULL DEFAULT 1,
    stamp         bigint      NOT NULL DEFAULT nextval('dialog.bot_stamps'),
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, bot_id)
);

-- One row per conversation. `active_at` is true to the minute, so that a busy conversation rarely changes its row.
CREATE TABLE dialog.conversations (
    conversation_id uuid        PRIMARY KEY,
    tenant_id       text        NOT NULL,
    channel_id      text        NOT NULL,
    bot_id          text        NOT NULL,
    chat_id         text        NOT NULL,
    contact_id      uuid, -- found by the first turn
    created_at      timestamptz NOT NULL DEFAULT now(),
    active_at       timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 80);

CREATE INDEX conversations_by_activity ON dialog.conversations (tenant_id, active_at DESC, conversation_id DESC);

-- The inbox. What changes is in no index, so that updates stay in their page; what fails is marked in `trouble`, which
-- is NULL for all others.
CREATE TABLE dialog.messages (
    tenant_id       text        NOT NULL,
    message_id      uuid        NOT NULL, -- a UUID version 7: the key is also the order of time
    conversation_id uuid        NOT NULL,
    seq             bigint,               -- place in the lane; NULL when rejected, new when an operator retries
    channel_id      text        NOT NULL,
    bot_id          text        NOT NULL,
    dedupe_id       uuid,                 -- hash of tenant, channel and dedupe key; NULL after 7 days
    request         bytea       NOT NULL, -- parley.dialog.v1.SubmitMessageRequest, without its dedupe key
    chat            text        NOT NULL DEFAULT '', -- process that waits for the reply (Chat); '' when nobody does
    traceparent     text        NOT NULL DEFAULT '', -- of the span `send inbox`
    tracestate      text        NOT NULL DEFAULT '',
    received_at     timestamptz NOT NULL,
    state           smallint    NOT NULL, -- parley.dialog.v1.MessageState; PROCESSING is RECEIVED on a leased lane
    rejection       smallint    NOT NULL DEFAULT 0,
    attempts        smallint    NOT NULL DEFAULT 0,
    last_error      text        NOT NULL DEFAULT '',
    last_error_at   timestamptz,
    terminal_reason text        NOT NULL DEFAULT '',
    completed_at    timestamptz,
    trouble         smallint GENERATED ALWAYS AS ( -- 4 failed, 5 dead, 6 rejected
        CASE WHEN rejection <> 0 THEN 6 WHEN state IN (4, 5) THEN state END) STORED,
    PRIMARY KEY (tenant_id, message_id)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);

CREATE UNIQUE INDEX messages_once ON dialog.messages (dedupe_id) WHERE dedupe_id IS NOT NULL;
CREATE UNIQUE INDEX messages_in_lane ON dialog.messages (conversation_id, seq) WHERE seq IS NOT NULL;
CREATE INDEX messages_in_trouble ON dialog.messages (tenant_id, trouble, message_id) WHERE trouble IS NOT NULL;
CREATE INDEX messages_by_age ON dialog.messages USING brin (received_at) WITH (pages_per_range = 32, autosummarize = on);

-- A turn answers the messages first_seq to last_seq of a conversation. It is DECIDING (1) when its inputs were frozen
-- before its first journaled call, and PLANNED (2) from the commit of its plan on; then it never changes.
CREATE TABLE dialog.turns (
    conversation_id  uuid        NOT NULL,
    last_seq         bigint      NOT NULL,
    first_seq        bigint      NOT NULL,
    turn_id          uuid        NOT NULL,
    tenant_id        text        NOT NULL,
    message_id       uuid        NOT NULL, -- the last message
    state            smallint    NOT NULL,
    outcome          smallint    NOT NULL DEFAULT 0, -- parley.dialog.v1.TurnOutcome
    inputs           bytea,
    plan             bytea,
    input_tokens     bigint      NOT NULL DEFAULT 0,
    output_tokens    bigint      NOT NULL DEFAULT 0,
    price_micros_usd bigint      NOT NULL DEFAULT 0,
    model_calls      integer     NOT NULL DEFAULT 0,
    started_at       timestamptz NOT NULL,
    generated_at     timestamptz,
    PRIMARY KEY (conversation_id, last_seq)
) WITH (fillfactor = 95);

-- What became of the replies of a turn.
CREATE TABLE dialog.replies (
    turn_id     uuid     NOT NULL,
    index       integer  NOT NULL,
    delivery_id uuid,
    state       smallint NOT NULL, -- parley.dialog.v1.ReplyState
    changed_at  timestamptz, -- when it came to be so, as delivery says
    sent_at     timestamptz,
    error       text     NOT NULL DEFAULT '',
    PRIMARY KEY (turn_id, index)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

-- External calls of turns. A step that is done is never repeated; one in flight at a crash may be, and both are here.
CREATE TABLE dialog.journal (
    turn_id          uuid        NOT NULL,
    step             text        NOT NULL,
    try              integer     NOT NULL,
    tenant_id        text        NOT NULL,
    request_sha256   bytea       NOT NULL,
    state            smallint    NOT NULL, -- 1 started, 2 done, 3 failed
    result           json, -- not jsonb, which refuses a NUL that a model may say
    error            text        NOT NULL DEFAULT '',
    model            text        NOT NULL DEFAULT '',
    input_tokens     bigint      NOT NULL DEFAULT 0,
    output_tokens    bigint      NOT NULL DEFAULT 0,
    price_micros_usd bigint      NOT NULL DEFAULT 0,
    started_at       timestamptz NOT NULL DEFAULT now(),
    ended_at         timestamptz,
    PRIMARY KEY (turn_id, step, try)
) WITH (fillfactor = 80);

CREATE TABLE dialog.orders (
    tenant_id       text        NOT NULL,
    order_id        uuid        NOT NULL, -- a UUID version 7
    turn_id         uuid        NOT NULL,
    index           integer     NOT NULL,
    bot_id          text        NOT NULL,
    channel_id      text        NOT NULL,
    conversation_id uuid        NOT NULL,
    contact_id      uuid,
    message_id      uuid        NOT NULL,
    form_id         text        NOT NULL,
    fields          jsonb       NOT NULL,
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, order_id),
    CONSTRAINT orders_once UNIQUE (turn_id, index)
);

CREATE INDEX orders_by_conversation ON dialog.orders (conversation_id, order_id);

CREATE TABLE dialog.dialog_outcomes (
    turn_id         uuid        PRIMARY KEY,
    tenant_id       text        NOT NULL,
    bot_id          text        NOT NULL,
    channel_id      text        NOT NULL,
    conversation_id uuid        NOT NULL,
    completed       boolean     NOT NULL,
    dropoff_step    text        NOT NULL,
    message_count   integer     NOT NULL,
    duration        interval    NOT NULL,
    ended_at        timestamptz NOT NULL
);

CREATE INDEX dialog_outcomes_by_time ON dialog.dialog_outcomes (tenant_id, ended_at);

-- How far the janitor has come.
CREATE TABLE dialog.janitor (
    task       text        PRIMARY KEY,
    done_until timestamptz NOT NULL
);

INSERT INTO dialog.janitor VALUES ('dedupe', now());

-- Request ids of operators' calls, so that each happens once (see services/runtime/idempotency.py).
CREATE TABLE dialog.requests (
    tenant_id  text        NOT NULL,
    request_id text        NOT NULL,
    method     text        NOT NULL,
    digest     bytea       NOT NULL,
    response   bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, request_id)
);
