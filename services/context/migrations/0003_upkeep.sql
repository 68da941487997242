-- How far each task of upkeep has come, and what it has removed so far.
CREATE TABLE context.upkeep (
    task    text        PRIMARY KEY,
    reached uuid,                           -- where the next step goes on; NULL: at the start
    removed bigint      NOT NULL DEFAULT 0, -- rows, since the beginning
    detail  text        NOT NULL DEFAULT '',
    done_at timestamptz NOT NULL DEFAULT now()
);
