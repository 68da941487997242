-- A row is what was stored of one trace at one time; for most traces that is all of it.
--
-- Logged, so that a crash of PostgreSQL (when traces are most wanted) loses no more than the last moment: writers
-- commit without waiting for the disk. `spans` is compressed before it comes here.
CREATE TABLE telemetry.pieces (
    trace_id bytea NOT NULL,
    tenant_id text NOT NULL,
    name text NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    stored_at timestamptz NOT NULL,
    span_count integer NOT NULL,
    has_error boolean NOT NULL,
    services text[] NOT NULL,
    spans bytea STORAGE EXTERNAL NOT NULL
) PARTITION BY RANGE (started_at);

CREATE INDEX pieces_trace ON telemetry.pieces (trace_id);
CREATE INDEX pieces_newest ON telemetry.pieces (tenant_id, started_at, trace_id);
CREATE INDEX pieces_errors ON telemetry.pieces (tenant_id, started_at, trace_id) WHERE has_error;

-- The days that have a partition.
CREATE TABLE telemetry.days (
    day date PRIMARY KEY,
    thinned boolean NOT NULL DEFAULT false
);
