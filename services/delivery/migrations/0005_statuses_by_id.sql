-- A status that comes before the provider's id of its message is known is found by that id when it is, so that nobody
-- has to walk through other systems' statuses. `look_at` is for those whose process died in between: they are looked at
-- again a few times, later and later. `word` is a status in a word that is not known.
ALTER TABLE delivery.statuses ADD COLUMN look_at timestamptz, ADD COLUMN word text NOT NULL DEFAULT '';
UPDATE delivery.statuses SET look_at = now() WHERE NOT matched;
DROP INDEX delivery.statuses_unmatched;
CREATE INDEX statuses_unmatched ON delivery.statuses (channel_key, provider_message_id) WHERE NOT matched;
CREATE INDEX statuses_to_look_at ON delivery.statuses (look_at) WHERE NOT matched;
