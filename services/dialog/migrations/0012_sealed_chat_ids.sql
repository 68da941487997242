-- The provider's id of a chat is sealed from now on: it may be a phone number, or what a caller calls its user. `chat_id`
-- holds those that were stored in clear before, until their next message.
ALTER TABLE dialog.conversations
    ADD COLUMN sealed_chat_id bytea,
    ALTER COLUMN chat_id SET DEFAULT '';
