-- name: tenants_in
-- All tenants in {table}, in brackets: one entry of an index that begins with `tenant_id` is read for each of them, however
-- many rows they have.
(
    WITH RECURSIVE found AS (
        (SELECT tenant_id FROM {table} ORDER BY tenant_id LIMIT 1)
        UNION ALL
        SELECT (SELECT tenant_id FROM {table} WHERE tenant_id > found.tenant_id ORDER BY tenant_id LIMIT 1)
        FROM found WHERE tenant_id IS NOT NULL
    )
    SELECT tenant_id FROM found WHERE tenant_id IS NOT NULL
)
