-- name: turn
-- One writer at a time, so that revisions are committed in their order.
SELECT pg_advisory_xact_lock(hashtextextended('delivery channels', 0));

-- name: changes
-- What has changed since a revision, in the order of the changes. One statement, so that it sees one moment.
SELECT revision, true AS alive, {columns} FROM delivery.channels AS channel WHERE revision > $1
UNION ALL
SELECT revision, false, channel_key, '', channel_id, 0::smallint, '', '{}'::jsonb, false, '', '{}'::jsonb, revision,
    deleted_at, deleted_at
FROM delivery.deleted_channels WHERE revision > $1
ORDER BY 1;

-- name: get
-- One channel; of any tenant when none is named.
SELECT {columns} FROM delivery.channels AS channel WHERE channel_id = $1 AND ($2 = '' OR tenant_id = $2);

-- name: list
-- A tenant's channels by id.
SELECT {columns} FROM delivery.channels AS channel
WHERE tenant_id = $1 AND channel_id > $2 AND ($3 = '' OR bot_id = $3)
ORDER BY channel_id LIMIT $4;

-- name: create
-- Nothing comes back when the id is taken, by whatever tenant.
INSERT INTO delivery.channels AS channel
    (tenant_id, channel_id, provider, bot_id, settings, secrets, revision)
VALUES ($1, $2, $3, $4, $5, $6, nextval('delivery.channel_revisions'))
ON CONFLICT ON CONSTRAINT channels_id DO NOTHING
RETURNING {columns};

-- name: update
-- NULL leaves a value as it is, and so does a secret that $5 does not name.
UPDATE delivery.channels AS channel SET
    bot_id = coalesce($3, bot_id),
    settings = coalesce($4, settings),
    secrets = secrets || $5::jsonb,
    enabled = coalesce($6, enabled),
    broken_reason = coalesce($7, broken_reason),
    revision = nextval('delivery.channel_revisions'),
    updated_at = now()
WHERE tenant_id = $1 AND channel_id = $2
RETURNING {columns};

-- name: break
-- The provider refuses the channel as it was at this revision.
UPDATE delivery.channels AS channel SET
    broken_reason = $3, revision = nextval('delivery.channel_revisions'), updated_at = now()
WHERE channel_key = $1 AND revision = $2 AND broken_reason = ''
RETURNING channel_key;

-- name: delete
-- What is left is the word of it, for those who watch.
WITH gone AS (
    DELETE FROM delivery.channels WHERE tenant_id = $1 AND channel_id = $2 RETURNING channel_key, channel_id
)
INSERT INTO delivery.deleted_channels (channel_key, channel_id, revision)
SELECT channel_key, channel_id, nextval('delivery.channel_revisions') FROM gone
RETURNING channel_key;

-- name: sealed_before
-- Channels above a key with a secret that another master key than $2 has sealed. Its id is in bytes 2 to 5.
SELECT channel_key, tenant_id, channel_id, secrets FROM delivery.channels
WHERE channel_key > $1 AND EXISTS (SELECT FROM jsonb_each_text(secrets) WHERE substring(value FROM 3 FOR 8) <> $2)
ORDER BY channel_key LIMIT $3;

-- name: reseal
-- Unless they were changed meanwhile.
UPDATE delivery.channels SET secrets = $3 WHERE channel_key = $1 AND secrets = $2 RETURNING channel_key;
