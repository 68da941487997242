-- Bots whose parked lanes are being woken, step by step: enabled ones, and deleted ones, whose messages are dead letters.
CREATE TABLE dialog.awakenings (
    tenant_id text        NOT NULL,
    bot_id    text        NOT NULL,
    noted_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, bot_id)
);
