-- What a delivery says is no longer a text only, and its parts are what the provider shows of it rather than slices of
-- that text: both are stored together, sealed. A plain text that is one part is stored as before, in `sealed_text`; so is
-- nothing else from now on, and `text` and `cuts` hold what earlier versions have stored.
ALTER TABLE delivery.deliveries ADD COLUMN sealed_content bytea;
