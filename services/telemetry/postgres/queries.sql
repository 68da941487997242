-- name: of_trace
-- What tenant $2 may see of a trace: its own pieces, and those that name no tenant, each up to a bound that nobody else's
-- fill; and one of another tenant's that is ours, for then what names nobody is nobody's. A look into the index of each
-- day.
(
    SELECT trace_id, tenant_id, name, started_at, ended_at, span_count, has_error, services, spans, outside
    FROM telemetry.pieces WHERE trace_id = $1 AND tenant_id = $2 ORDER BY started_at, stored_at LIMIT 1000
)
UNION ALL
(
    SELECT trace_id, tenant_id, name, started_at, ended_at, span_count, has_error, services, spans, outside
    FROM telemetry.pieces WHERE trace_id = $1 AND tenant_id = '' ORDER BY started_at, stored_at LIMIT 1000
)
UNION ALL
(
    SELECT trace_id, tenant_id, name, started_at, ended_at, span_count, has_error, services, spans, outside
    FROM telemetry.pieces WHERE trace_id = $1 AND tenant_id NOT IN ('', $2) AND NOT outside LIMIT 1
)

-- name: find
-- Traces of a tenant, newest first. A trace is met at its first piece that names the tenant and, when only failed ones
-- are wanted, failed (those have an index of their own); then its pieces are summed up. Pieces of one trace lie within a
-- day of each other. $2, $3: the position after which to go on; $4: service, empty for all; $5: shortest duration.
SELECT p.trace_id, p.started_at AS position, whole.*
FROM telemetry.pieces p
CROSS JOIN LATERAL (
    SELECT min(o.started_at) AS started_at, max(o.ended_at) AS ended_at, sum(o.span_count)::integer AS span_count,
        bool_or(o.has_error) AS has_error, coalesce(max(o.name), '') AS name,
        $4 = '' OR bool_or($4 = ANY (o.services)) AS has_service
    FROM (
        SELECT t.tenant_id, t.started_at, t.ended_at, t.span_count, t.has_error, t.name, t.services,
            bool_or(t.tenant_id NOT IN ('', p.tenant_id) AND NOT t.outside) OVER () AS shared
        FROM telemetry.pieces t
        WHERE t.trace_id = p.trace_id
            AND t.started_at BETWEEN p.started_at - interval '1 day' AND p.started_at + interval '1 day'
    ) o
    WHERE o.tenant_id = p.tenant_id OR (o.tenant_id = '' AND NOT o.shared)
) whole
WHERE p.tenant_id = $1 AND p.started_at <= $2 AND (p.started_at, p.trace_id) < ($2, $3) {p_failed}
    AND whole.has_service AND whole.ended_at - whole.started_at >= $5
    AND NOT EXISTS (
        SELECT FROM telemetry.pieces e
        WHERE e.trace_id = p.trace_id AND e.tenant_id = p.tenant_id {e_failed}
            AND e.started_at BETWEEN p.started_at - interval '1 day' AND p.started_at
            AND (e.started_at, e.stored_at, e.ctid) < (p.started_at, p.stored_at, p.ctid)
    )
ORDER BY p.started_at DESC, p.trace_id DESC
LIMIT $6

-- name: days
SELECT day, thinned FROM telemetry.days

-- name: add_day
INSERT INTO telemetry.days (day) VALUES ($1) ON CONFLICT DO NOTHING

-- name: forget_day
DELETE FROM telemetry.days WHERE day = $1

-- name: mark_thinned
UPDATE telemetry.days SET thinned = true WHERE day = $1

-- name: take_turns
-- Only one process at a time looks after the partitions.
SELECT pg_advisory_xact_lock(hashtextextended('parley telemetry partitions', 0))

-- name: try_turn
-- The same for who does not wait.
SELECT pg_try_advisory_xact_lock(hashtextextended('parley telemetry partitions', 0))

-- name: tenants
-- Of whom there are traces.
SELECT tenant_id FROM {tenants_in_pieces} AS found WHERE tenant_id > ''

-- name: forget
-- Pieces of up to $1 traces of tenant $2 from before $3.
WITH old AS MATERIALIZED (
    SELECT started_at, trace_id FROM telemetry.pieces
    WHERE tenant_id = $2 AND started_at < $3 ORDER BY started_at, trace_id LIMIT $1
), gone AS (
    DELETE FROM telemetry.pieces AS p USING old
    WHERE p.tenant_id = $2 AND p.started_at < $3 AND (p.started_at, p.trace_id) = (old.started_at, old.trace_id)
    RETURNING 1
)
SELECT count(*) FROM gone

-- name: keep_important
-- What stays of a day ({table}): the traces that failed, that day or the next, and those that were slow.
CREATE TEMP TABLE important ON COMMIT DROP AS
SELECT p.* FROM {table} p
WHERE p.trace_id IN (
        SELECT trace_id FROM {table} GROUP BY trace_id
        HAVING bool_or(has_error) OR max(ended_at) - min(started_at) > {slow}
        UNION ALL
        SELECT trace_id FROM telemetry.pieces
        WHERE has_error AND started_at >= {begin} - interval '1 day' AND started_at < {begin} + interval '2 days'
    )
