-- name: read
-- All channels with something amiss. Durations in seconds from now, negative when they are over.
SELECT channel_key, extract(epoch FROM open_until - now())::float8, openings,
    extract(epoch FROM paused_until - now())::float8, pauses
FROM delivery.gates;

-- name: write
-- What a process has learnt of a channel; NULL stands for no time.
INSERT INTO delivery.gates AS gate (channel_key, open_until, openings, paused_until, pauses)
VALUES ($1, now() + $2::float8 * interval '1 second', $3, now() + $4::float8 * interval '1 second', $5)
ON CONFLICT (channel_key) DO UPDATE SET
    open_until = excluded.open_until,
    openings = excluded.openings,
    paused_until = greatest(gate.paused_until, excluded.paused_until),
    pauses = greatest(gate.pauses, excluded.pauses),
    changed_at = now();

-- name: probe
-- The right to make the one call that finds out, for so many seconds: nothing comes back when somebody else has it.
INSERT INTO delivery.gates AS gate (channel_key, open_until, openings) VALUES ($1, now() + $2::float8 * interval '1 second', 1)
ON CONFLICT (channel_key) DO UPDATE SET open_until = excluded.open_until, changed_at = now()
WHERE gate.open_until IS NULL OR gate.open_until <= now()
RETURNING true;

-- name: clear
-- A channel works again, was changed, or is gone.
DELETE FROM delivery.gates WHERE channel_key = $1;

-- name: expire
-- Those that nobody has used for long.
DELETE FROM delivery.gates WHERE greatest(open_until, paused_until, changed_at) < now() - interval '1 hour';
