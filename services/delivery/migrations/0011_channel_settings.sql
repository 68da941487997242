-- A channel's settings are those of its provider, and its secrets a map from their names to their sealed values, in hex.
-- What is sealed stays sealed under the names that it was sealed under: it moves without being opened, whichever master
-- key it needs.
ALTER TABLE delivery.channels
    ADD COLUMN settings jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN secrets jsonb NOT NULL DEFAULT '{}';
UPDATE delivery.channels SET
    settings = CASE WHEN provider = 2 THEN jsonb_build_object('api_base', api_base) ELSE '{}' END,
    secrets = jsonb_build_object('token', encode(token, 'hex'), 'webhook_secret', encode(webhook_secret, 'hex'));
ALTER TABLE delivery.channels DROP COLUMN api_base, DROP COLUMN token, DROP COLUMN webhook_secret;
