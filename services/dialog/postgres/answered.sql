-- name: answered
-- Those of the messages, each by tenant and id, that are done; looked up by their keys, and nothing else read of them.
SELECT message_id
FROM unnest($1::text[], $2::uuid[]) AS waiting (tenant_id, message_id)
JOIN dialog.messages AS message USING (tenant_id, message_id)
WHERE message.state IN (3, 5);
