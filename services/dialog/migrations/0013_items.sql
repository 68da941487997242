-- Lanes hold timers, have a mode, and what can wait comes after what somebody waits for (see
-- services/runtime/lanes/schema.sql). A form that waits for its person has a timer in its lane.
ALTER TABLE dialog.lanes
    ADD COLUMN priority smallint NOT NULL DEFAULT 0,
    ADD COLUMN mode smallint NOT NULL DEFAULT 0,
    ADD COLUMN timer_at timestamptz,
    ADD COLUMN timers text NOT NULL DEFAULT '',
    DROP CONSTRAINT lanes_due;

UPDATE dialog.lanes AS lane SET
    timer_at = form.timer_at,
    timers = form.timers,
    due_at = CASE WHEN lane.pending = 0 THEN form.timer_at ELSE lane.due_at END,
    priority = CASE WHEN lane.pending = 0 THEN 1 ELSE 0 END
FROM (
    SELECT conversation_id, active_at + ttl + interval '2 minutes' AS timer_at,
        json_build_array(json_build_object(
            'kind', 'drop_off',
            'at', active_at + ttl + interval '2 minutes',
            'data', json_build_object(
                'turn_id', turn_id, 'bot_id', bot_id, 'channel_id', channel_id, 'step', step,
                'message_count', message_count, 'started_at', started_at, 'active_at', active_at
            )
        ))::text AS timers
    FROM dialog.open_forms
) AS form
WHERE lane.lane_id = form.conversation_id;

DROP TABLE dialog.open_forms;

ALTER TABLE dialog.lanes
    ADD CONSTRAINT lanes_due CHECK ((parked IS NULL AND (pending > 0 OR timer_at IS NOT NULL)) = (due_at IS NOT NULL));
DROP INDEX dialog.lanes_claimable, dialog.lanes_by_share;
CREATE INDEX lanes_claimable ON dialog.lanes (priority, due_at) WHERE due_at < 'infinity';
CREATE INDEX lanes_by_share ON dialog.lanes (tenant_id, share, due_at) WHERE due_at > '-infinity' AND priority = 0;
CREATE INDEX lanes_patient ON dialog.lanes (tenant_id, due_at) WHERE isfinite(due_at) AND priority = 1;

-- What an item is: a person's message or something else that its conversation has to deal with in turn.
ALTER TABLE dialog.messages ADD COLUMN kind smallint NOT NULL DEFAULT 1;
