-- What is remembered. Keys begin with what is unique, so that no plan reads all that a tenant has. Documents are sealed (AES-256-GCM), bound to the tenant and to the row's own id.
CREATE SCHEMA IF NOT EXISTS context;

CREATE TABLE context.contacts (
    tenant_id  text        NOT NULL,
    contact_id uuid        NOT NULL,
    version    bigint      NOT NULL DEFAULT 0,
    data       bytea       NOT NULL DEFAULT '',
    expires_at timestamptz NOT NULL DEFAULT 'infinity',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (contact_id, tenant_id)
) WITH (fillfactor = 80);

-- Identities are found by a keyed hash, so that no phone number stands in an index; the value itself is sealed.
CREATE TABLE context.identities (
    tenant_id  text        NOT NULL,
    digest     bytea       NOT NULL,
    kind       smallint    NOT NULL,
    value      bytea       NOT NULL,
    contact_id uuid        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (digest, tenant_id)
);
CREATE INDEX identities_contact ON context.identities (contact_id, tenant_id);

-- A row outlives its expired document, so that versions never start anew.
CREATE TABLE context.conversations (
    tenant_id       text        NOT NULL,
    conversation_id uuid        NOT NULL,
    contact_id      uuid        NOT NULL,
    version         bigint      NOT NULL,
    data            bytea       NOT NULL,
    expires_at      timestamptz NOT NULL,
    PRIMARY KEY (conversation_id, tenant_id)
) WITH (fillfactor = 60);
