-- What a provider says of a message that nobody knows yet may hold the message's text; it is scrubbed of it once it is
-- placed. Until then it is sealed from now on; `error` holds what was stored in clear before.
ALTER TABLE delivery.statuses ADD COLUMN sealed_error bytea;
