-- Texts are sealed from now on; `text` holds those that were stored in clear before, and is empty for others.
ALTER TABLE delivery.deliveries ADD COLUMN sealed_text bytea;
