-- name: state
SELECT revision, epoch, redis_run_id FROM limits.state;

-- name: bump_epoch
UPDATE limits.state SET epoch = epoch + 1 RETURNING epoch;

-- name: meet_redis
-- Another Redis than the one before, or the same after a restart, may have forgotten its last second.
UPDATE limits.state SET epoch = epoch + 1, redis_run_id = $1 WHERE redis_run_id <> $1 RETURNING epoch;

-- name: used
-- What was used, and under which version; no row means nothing.
SELECT tenant_id, rule_id, value, day, used, version
FROM unnest($1::text[], $2::text[], $3::text[], $4::date[]) AS wanted (tenant_id, rule_id, value, day)
JOIN limits.counters USING (tenant_id, rule_id, value, day);

-- name: charge
-- Charges reservations that were not charged before. Both inserts lock in key order, and none of the first kind comes
-- after one of the second, so concurrent batches never deadlock. Returns every line's count as it is now, and whether
-- its reservation was charged by this call.
WITH line AS MATERIALIZED (
    SELECT reservation_key, tenant_id, rule_id, value, day, units
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::date[], $6::bigint[])
        AS line (reservation_key, tenant_id, rule_id, value, day, units)
), charged AS (
    INSERT INTO limits.charges (reservation_key)
    SELECT DISTINCT reservation_key FROM line ORDER BY reservation_key
    ON CONFLICT DO NOTHING
    RETURNING reservation_key
), counted AS (
    INSERT INTO limits.counters AS counter (tenant_id, rule_id, value, day, used)
    SELECT tenant_id, rule_id, value, day, sum(units)
    FROM line JOIN charged USING (reservation_key)
    GROUP BY tenant_id, rule_id, value, day
    ORDER BY tenant_id, rule_id, value, day
    ON CONFLICT (tenant_id, rule_id, value, day) DO UPDATE SET used = counter.used + excluded.used
    RETURNING tenant_id, rule_id, value, day, used, version
)
SELECT line.reservation_key, line.rule_id, charged.reservation_key IS NOT NULL AS fresh,
    coalesce(counted.used, counter.used, 0) AS used, coalesce(counted.version, counter.version, 0) AS version
FROM line
LEFT JOIN charged USING (reservation_key)
LEFT JOIN counted USING (tenant_id, rule_id, value, day)
LEFT JOIN limits.counters AS counter USING (tenant_id, rule_id, value, day);

-- name: reset
INSERT INTO limits.counters AS counter (tenant_id, rule_id, value, day, used, version)
VALUES ($1, $2, $3, $4, 0, 1)
ON CONFLICT (tenant_id, rule_id, value, day) DO UPDATE SET used = 0, version = counter.version + 1
RETURNING version;

-- name: drop_holds_of
DELETE FROM limits.holds WHERE tenant_id = $1 AND rule_id = $2 AND value = $3 AND day = $4;

-- name: lock_counters
-- Makes and locks counters in key order, so that reservations made here take turns.
INSERT INTO limits.counters AS counter (tenant_id, rule_id, value, day, used)
SELECT DISTINCT tenant_id, rule_id, value, day, 0
FROM unnest($1::text[], $2::text[], $3::text[], $4::date[]) AS wanted (tenant_id, rule_id, value, day)
ORDER BY tenant_id, rule_id, value, day
ON CONFLICT (tenant_id, rule_id, value, day) DO UPDATE SET used = counter.used
RETURNING tenant_id, rule_id, value, day, used;

-- name: open_holds
SELECT tenant_id, rule_id, value, day, sum(units)::bigint AS units, min(expires_at) AS first_expiry
FROM unnest($1::text[], $2::text[], $3::text[], $4::date[]) AS wanted (tenant_id, rule_id, value, day)
JOIN limits.holds USING (tenant_id, rule_id, value, day)
WHERE expires_at > $5
GROUP BY tenant_id, rule_id, value, day;

-- name: known_holds
SELECT DISTINCT ON (reservation_key) reservation_key, granted_at, expires_at, body
FROM limits.holds WHERE reservation_key = ANY ($1::uuid[]) AND expires_at > $2;

-- name: add_holds
INSERT INTO limits.holds (reservation_key, tenant_id, rule_id, value, day, units, granted_at, expires_at, body)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::date[], $6::bigint[], $7::timestamptz[],
    $8::timestamptz[], $9::bytea[])
ON CONFLICT (reservation_key, rule_id) DO UPDATE SET granted_at = excluded.granted_at, expires_at = excluded.expires_at,
    value = excluded.value, day = excluded.day, units = excluded.units, body = excluded.body;

-- name: drop_holds
DELETE FROM limits.holds WHERE reservation_key = ANY ($1::uuid[]);

-- name: tidy_charges
DELETE FROM limits.charges WHERE charged_at < now() - interval '7 days';

-- name: tidy_counters
DELETE FROM limits.counters WHERE day < current_date - 92;

-- name: tidy_holds
DELETE FROM limits.holds WHERE expires_at < now() - interval '1 hour';

-- name: rules
SELECT * FROM limits.rules;

-- name: overrides
SELECT * FROM limits.overrides;

-- name: zones
SELECT tenant_id, time_zone FROM limits.tenants;

-- name: store_zones
-- Returns the tenants whose zone is another one than before.
INSERT INTO limits.tenants AS tenant (tenant_id, time_zone)
SELECT * FROM unnest($1::text[], $2::text[]) AS new (tenant_id, time_zone)
ORDER BY tenant_id
ON CONFLICT (tenant_id) DO UPDATE SET time_zone = excluded.time_zone, updated_at = now()
WHERE tenant.time_zone <> excluded.time_zone
RETURNING tenant_id;

-- name: rule
SELECT * FROM limits.rules WHERE tenant_id = $1 AND rule_id = $2;

-- name: rule_for
-- The rule that holds for a tenant: its own, else the one for every tenant.
SELECT * FROM limits.rules WHERE rule_id = $2 AND tenant_id IN ($1, '*') ORDER BY tenant_id = '*' LIMIT 1;

-- name: overrides_of
SELECT * FROM limits.overrides WHERE tenant_id = $1 AND rule_id = ANY ($2::text[]);

-- name: count_rules
-- How many other rules match a resource for a tenant, or for the tenant with the most of them; never too few.
SELECT (SELECT count(*) FROM limits.rules WHERE tenant_id = '*' AND resource = $2 AND rule_id <> $3)
    + coalesce((
        SELECT count(*) FROM limits.rules
        WHERE tenant_id <> '*' AND $1 IN (tenant_id, '*') AND resource = $2 AND rule_id <> $3
        GROUP BY tenant_id ORDER BY 1 DESC LIMIT 1
    ), 0);

-- name: create_rule
INSERT INTO limits.rules (tenant_id, rule_id, resource, scope, algorithm, parameters, failure_mode, shadow)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT DO NOTHING
RETURNING *;

-- name: update_rule
UPDATE limits.rules SET resource = $3, scope = $4, algorithm = $5, parameters = $6, failure_mode = $7, shadow = $8,
    updated_at = now()
WHERE tenant_id = $1 AND rule_id = $2
RETURNING *;

-- name: delete_rule
DELETE FROM limits.rules WHERE tenant_id = $1 AND rule_id = $2 RETURNING rule_id;

-- name: delete_overrides
DELETE FROM limits.overrides WHERE tenant_id = $1 AND rule_id = $2;

-- name: set_override
INSERT INTO limits.overrides (tenant_id, rule_id, scope, selector_id, max_units, length_ms)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant_id, rule_id, scope, selector_id) DO UPDATE
    SET max_units = excluded.max_units, length_ms = excluded.length_ms;

-- name: delete_override
DELETE FROM limits.overrides WHERE tenant_id = $1 AND rule_id = $2 AND scope = $3 AND selector_id = $4
RETURNING rule_id;

-- name: list_rules
-- Own rules hide those for every tenant with the same id; by id.
SELECT DISTINCT ON (rule_id) * FROM limits.rules
WHERE tenant_id IN ($1, '*') AND rule_id > $2
ORDER BY rule_id, tenant_id = '*'
LIMIT $3;

-- name: bump_revision
UPDATE limits.state SET revision = revision + 1 RETURNING revision;
