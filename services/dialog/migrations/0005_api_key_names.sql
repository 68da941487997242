-- What a key is for, and whether it is still in use.
ALTER TABLE dialog.api_keys ADD COLUMN name text NOT NULL DEFAULT '', ADD COLUMN last_used_at timestamptz;
