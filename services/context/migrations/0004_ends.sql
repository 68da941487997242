-- Identities of whom nothing is kept any more have an end too: when nobody has looked them up for long, and no
-- conversation and no contact is theirs.
ALTER TABLE context.identities ADD COLUMN seen_at timestamptz; -- last looked up, true to the day; NULL: not since then
CREATE INDEX conversations_contact ON context.conversations (contact_id, tenant_id);
