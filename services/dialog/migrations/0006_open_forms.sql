-- Forms that wait for their person: what analytics learns when nobody ever comes back. A row is written with the plan
-- that asks, and is gone with the one that ends the dialog. `due_at` is a full minute, so that a busy dialog changes no
-- index.
CREATE TABLE dialog.open_forms (
    conversation_id uuid        PRIMARY KEY,
    turn_id         uuid        NOT NULL, -- the last turn
    tenant_id       text        NOT NULL,
    bot_id          text        NOT NULL,
    channel_id      text        NOT NULL,
    step            text        NOT NULL,
    message_count   integer     NOT NULL,
    started_at      timestamptz NOT NULL,
    active_at       timestamptz NOT NULL, -- of the last turn
    ttl             interval    NOT NULL, -- how long the dialog is remembered
    due_at          timestamptz NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX open_forms_due ON dialog.open_forms (due_at);
