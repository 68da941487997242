-- name: conversations
-- The documents of many conversations.
SELECT c.tenant_id, c.conversation_id, c.contact_id, c.version, c.data
FROM unnest($1::text[], $2::uuid[]) AS wanted (tenant_id, conversation_id)
JOIN context.conversations c USING (tenant_id, conversation_id);

-- name: contacts
-- The documents of many contacts.
SELECT c.tenant_id, c.contact_id, c.version, c.data
FROM unnest($1::text[], $2::uuid[]) AS wanted (tenant_id, contact_id)
JOIN context.contacts c USING (tenant_id, contact_id);

-- name: versions
-- The versions of many conversations.
SELECT c.tenant_id, c.conversation_id, c.version
FROM unnest($1::text[], $2::uuid[]) AS wanted (tenant_id, conversation_id)
JOIN context.conversations c USING (tenant_id, conversation_id);

-- name: write
-- Write documents over the versions right before them; those that were written come back. In key order, so that
-- two batches cannot wait for each other.
INSERT INTO context.conversations AS c (tenant_id, conversation_id, contact_id, version, data, expires_at)
SELECT tenant_id, conversation_id, contact_id, version, data, to_timestamp(expires_at / 1000.0)
FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::bigint[], $5::bytea[], $6::bigint[])
    AS new (tenant_id, conversation_id, contact_id, version, data, expires_at)
ORDER BY tenant_id, conversation_id
ON CONFLICT (tenant_id, conversation_id) DO UPDATE
SET version = excluded.version, data = excluded.data, expires_at = excluded.expires_at
WHERE c.version = excluded.version - 1
RETURNING tenant_id, conversation_id;

-- name: lock_conversation
-- One conversation's document, locked.
SELECT contact_id, version, data FROM context.conversations
WHERE tenant_id = $1 AND conversation_id = $2 FOR UPDATE;

-- name: lock_contact
-- One contact's document, locked.
SELECT version, data FROM context.contacts WHERE tenant_id = $1 AND contact_id = $2 FOR UPDATE;

-- name: insert_contacts
-- Rows of contacts that are not there yet.
INSERT INTO context.contacts (tenant_id, contact_id)
SELECT tenant_id, contact_id FROM unnest($1::text[], $2::uuid[]) AS new (tenant_id, contact_id)
ORDER BY tenant_id, contact_id
ON CONFLICT DO NOTHING;

-- name: write_contact
-- One contact's document, under its lock.
UPDATE context.contacts SET version = $3, data = $4, expires_at = to_timestamp($5::bigint / 1000.0)
WHERE tenant_id = $1 AND contact_id = $2;

-- name: identities
-- Whose the identities are, and which of them nobody has looked up for a day.
SELECT i.tenant_id, i.digest, i.contact_id, coalesce(i.seen_at, i.created_at) < now() - interval '1 day' AS unseen
FROM unnest($1::text[], $2::bytea[]) AS wanted (tenant_id, digest)
JOIN context.identities i USING (tenant_id, digest);

-- name: see_identities
-- Give identities to contacts, or note that they are looked up; one that somebody has keeps its owner. Whose they are
-- then.
INSERT INTO context.identities AS i (tenant_id, digest, kind, value, contact_id)
SELECT tenant_id, digest, kind, value, contact_id
FROM unnest($1::text[], $2::bytea[], $3::smallint[], $4::bytea[], $5::uuid[])
    AS new (tenant_id, digest, kind, value, contact_id)
ORDER BY tenant_id, digest
ON CONFLICT (digest, tenant_id) DO UPDATE SET seen_at = CASE
    WHEN coalesce(i.seen_at, i.created_at) < now() - interval '1 day' THEN now() ELSE i.seen_at
END
RETURNING tenant_id, digest, contact_id;

-- name: forget_conversations
-- Of the $2 conversations after $1: empties those whose time is over, and removes those that were emptied before $3; till
-- then the versions stay. They are walked by their key: an index of their ends would be written with each save, and
-- without one each look would read them all. The version before wrote 'infinity' where it had emptied one.
WITH near AS MATERIALIZED (
    SELECT conversation_id, tenant_id FROM context.conversations
    WHERE conversation_id > $1 ORDER BY conversation_id, tenant_id LIMIT $2
), gone AS (
    DELETE FROM context.conversations c USING near
    WHERE (c.conversation_id, c.tenant_id) = (near.conversation_id, near.tenant_id)
        AND c.data = '' AND c.expires_at < $3
    RETURNING 1
), due AS (
    SELECT conversation_id, tenant_id FROM context.conversations JOIN near USING (conversation_id, tenant_id)
    WHERE (expires_at < now() AND data <> '') OR expires_at = 'infinity'
    FOR UPDATE OF conversations SKIP LOCKED
), emptied AS (
    UPDATE context.conversations c SET data = '', expires_at = now()
    FROM due WHERE (c.conversation_id, c.tenant_id) = (due.conversation_id, due.tenant_id)
    RETURNING 1
)
SELECT
    (SELECT count(*) FROM near) AS walked,
    (SELECT conversation_id FROM near ORDER BY conversation_id DESC LIMIT 1) AS last,
    (SELECT count(*) FROM emptied) + (SELECT count(*) FROM gone) AS removed;

-- name: add_missed
-- In key order, so that two batches cannot wait for each other.
INSERT INTO context.missed AS m (name, version)
SELECT name, version FROM unnest($1::text[], $2::bigint[]) AS new (name, version)
ORDER BY name
ON CONFLICT (name) DO UPDATE SET version = greatest(m.version, excluded.version);

-- name: missed
SELECT name, version FROM context.missed LIMIT $1;

-- name: made_up
DELETE FROM context.missed m USING unnest($1::text[], $2::bigint[]) AS done (name, version)
WHERE m.name = done.name AND m.version <= done.version;

-- name: forget_contacts
-- Of the $2 contacts after $1: empties those whose time is over, and removes those for whom it has been over since $3
-- and whose conversations are gone.
WITH near AS MATERIALIZED (
    SELECT contact_id, tenant_id, expires_at FROM context.contacts
    WHERE contact_id > $1 ORDER BY contact_id, tenant_id LIMIT $2
), gone AS (
    DELETE FROM context.contacts c USING near
    WHERE (c.contact_id, c.tenant_id) = (near.contact_id, near.tenant_id)
        AND (c.expires_at < $3 OR (c.expires_at = 'infinity' AND c.created_at < $3))
        AND NOT EXISTS (
            SELECT FROM context.conversations v WHERE (v.contact_id, v.tenant_id) = (c.contact_id, c.tenant_id)
        )
    RETURNING c.contact_id, c.tenant_id
), emptied AS (
    UPDATE context.contacts c SET data = '' FROM near
    WHERE (c.contact_id, c.tenant_id) = (near.contact_id, near.tenant_id) AND c.expires_at < now() AND c.data <> ''
        AND NOT EXISTS (SELECT FROM gone WHERE (gone.contact_id, gone.tenant_id) = (c.contact_id, c.tenant_id))
)
SELECT
    (SELECT count(*) FROM near) AS walked,
    (SELECT contact_id FROM near ORDER BY contact_id DESC LIMIT 1) AS last,
    (SELECT count(*) FROM gone) AS removed;

-- name: forget_identities
-- Of the contacts of the $2 identities after those of the contact $1: removes the identities that nobody has looked up
-- since $3, when neither the contact nor a conversation of theirs is kept any more. Who comes back then is a new contact.
WITH near AS MATERIALIZED (
    SELECT contact_id, tenant_id FROM context.identities WHERE contact_id > $1 ORDER BY contact_id, tenant_id LIMIT $2
), nobody AS (
    SELECT DISTINCT contact_id, tenant_id FROM near
    WHERE NOT EXISTS (
        SELECT FROM context.contacts c WHERE (c.contact_id, c.tenant_id) = (near.contact_id, near.tenant_id)
    ) AND NOT EXISTS (
        SELECT FROM context.conversations v WHERE (v.contact_id, v.tenant_id) = (near.contact_id, near.tenant_id)
    )
), gone AS (
    DELETE FROM context.identities i USING nobody
    WHERE (i.contact_id, i.tenant_id) = (nobody.contact_id, nobody.tenant_id)
        AND coalesce(i.seen_at, i.created_at) < $3
    RETURNING 1
)
SELECT
    (SELECT count(*) FROM near) AS walked,
    (SELECT contact_id FROM near ORDER BY contact_id DESC LIMIT 1) AS last,
    (SELECT count(*) FROM gone) AS removed;
