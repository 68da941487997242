-- An outcome that dialog cannot take is tried again after growing pauses, and given up in the end: one that never works
-- would be tried every two seconds for ever, and enough of them would hold up the others.
ALTER TABLE delivery.outcomes
    ADD COLUMN tries  smallint    NOT NULL DEFAULT 0,
    ADD COLUMN due_at timestamptz NOT NULL DEFAULT now();
