-- Rules, and what was used under daily quotas. Redis counts faster; this is the truth.

CREATE TABLE limits.rules (
    tenant_id    text        NOT NULL,
    rule_id      text        NOT NULL,
    resource     text        NOT NULL,
    scope        smallint    NOT NULL,  -- parley.limits.v1.RuleScope
    max_units    bigint      NOT NULL CHECK (max_units >= 0),
    time_zone    text,                  -- daily quota: where its day begins
    window_ms    bigint,                -- sliding window: its length
    failure_mode smallint    NOT NULL,  -- parley.limits.v1.FailureMode
    shadow       boolean     NOT NULL DEFAULT false,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, rule_id),
    CONSTRAINT rules_algorithm CHECK ((time_zone IS NULL) <> (window_ms IS NULL))
);

-- A tenant's overrides of whichever rule of that id holds for it, its own or the one for every tenant.
CREATE TABLE limits.overrides (
    tenant_id   text     NOT NULL,
    rule_id     text     NOT NULL,
    scope       smallint NOT NULL,  -- 2 bot, 3 channel, 4 contact
    selector_id text     NOT NULL,
    max_units   bigint   NOT NULL CHECK (max_units >= 0),
    window_ms   bigint,
    PRIMARY KEY (tenant_id, rule_id, scope, selector_id)
);

-- One row. `revision` grows with every change of rules. `epoch` grows whenever Redis may know less than this database:
-- counters that Redis took from an earlier epoch are loaded again.
CREATE TABLE limits.state (
    singleton    boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    revision     bigint  NOT NULL DEFAULT 1,
    epoch        bigint  NOT NULL DEFAULT 1,
    redis_run_id text    NOT NULL DEFAULT ''
) WITH (fillfactor = 50);
INSERT INTO limits.state DEFAULT VALUES;

-- Units used in a day. `version` grows with a reset, so that a slow writer never brings back an old count.
CREATE TABLE limits.counters (
    tenant_id text    NOT NULL,
    rule_id   text    NOT NULL,
    value     text    NOT NULL,  -- the bot, channel or contact; * when the rule counts the tenant
    day       date    NOT NULL,
    used      bigint  NOT NULL,
    version   integer NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, rule_id, value, day)
) WITH (fillfactor = 80);

-- Reservations that were charged: each once.
CREATE TABLE limits.charges (
    reservation_key uuid        NOT NULL PRIMARY KEY,
    charged_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX charges_by_time ON limits.charges USING brin (charged_at);

-- Units held while Redis was away.
CREATE TABLE limits.holds (
    reservation_key uuid        NOT NULL,
    tenant_id       text        NOT NULL,
    rule_id         text        NOT NULL,
    value           text        NOT NULL,
    day             date        NOT NULL,
    units           bigint      NOT NULL,
    granted_at      timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    body            bytea       NOT NULL,
    PRIMARY KEY (reservation_key, rule_id)
);
CREATE INDEX holds_of_counter ON limits.holds (tenant_id, rule_id, value, day);

-- Answers to changes, by the caller's request id.
CREATE TABLE limits.requests (
    tenant_id  text        NOT NULL,
    request_id text        NOT NULL,
    method     text        NOT NULL,
    digest     bytea       NOT NULL,
    response   bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, request_id)
);

INSERT INTO limits.rules (tenant_id, rule_id, resource, scope, max_units, time_zone, window_ms, failure_mode) VALUES
    -- 30 successful model turns a day and person, over all channels. While Redis is away Postgres counts.
    ('*', 'daily-quota', 'model.turn', 4, 30, 'UTC', NULL, 3),
    -- 300 calls a minute and channel. While Redis is away calls are allowed: the provider's own 429 still slows delivery
    -- down and costs no try, whereas a refusal would hold back every reply.
    ('*', 'chat2desk-rate', 'provider.chat2desk', 3, 300, NULL, 60000, 1);
