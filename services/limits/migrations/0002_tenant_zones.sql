-- The time zones of tenants, as those who reserve for them name them. A daily quota whose time_zone is '' begins its days
-- there; the one that comes with Parley does, unless somebody has changed it.
CREATE TABLE limits.tenants (
    tenant_id  text        PRIMARY KEY,
    time_zone  text        NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

UPDATE limits.rules SET time_zone = ''
WHERE tenant_id = '*' AND rule_id = 'daily-quota' AND time_zone = 'UTC' AND updated_at = created_at;
UPDATE limits.state SET revision = revision + 1;
