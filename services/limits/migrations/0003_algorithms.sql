-- A rule is an algorithm with its parameters: the fields of its message in the contract, durations in milliseconds.
ALTER TABLE limits.rules
    DROP CONSTRAINT rules_algorithm,
    ADD COLUMN algorithm text NOT NULL DEFAULT 'calendar_quota',  -- its field in parley.limits.v1.Rule
    ADD COLUMN parameters jsonb NOT NULL DEFAULT '{}';

UPDATE limits.rules SET parameters = jsonb_build_object('limit', max_units, 'time_zone', time_zone, 'period', 1)
WHERE window_ms IS NULL;
UPDATE limits.rules SET algorithm = 'sliding_window',
    parameters = jsonb_build_object('limit', max_units, 'window', window_ms)
WHERE window_ms IS NOT NULL;

ALTER TABLE limits.rules
    ALTER COLUMN algorithm DROP DEFAULT,
    ALTER COLUMN parameters DROP DEFAULT,
    DROP COLUMN max_units,
    DROP COLUMN time_zone,
    DROP COLUMN window_ms;

ALTER TABLE limits.overrides RENAME COLUMN window_ms TO length_ms;
