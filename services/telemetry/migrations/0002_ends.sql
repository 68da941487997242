-- Whether a tenant's own service has sent what a piece holds. It may name any trace, and nobody else's spans are judged by
-- that. Pieces from before count as ours, until they are old.
ALTER TABLE telemetry.pieces ADD COLUMN outside boolean NOT NULL DEFAULT false;

-- How far each task of upkeep has come, and what it has removed so far.
CREATE TABLE telemetry.upkeep (
    task    text        PRIMARY KEY,
    reached uuid,                           -- where the next step goes on; NULL: at the start
    removed bigint      NOT NULL DEFAULT 0, -- rows, since the beginning
    detail  text        NOT NULL DEFAULT '',
    done_at timestamptz NOT NULL DEFAULT now()
);
