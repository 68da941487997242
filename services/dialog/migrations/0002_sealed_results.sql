-- Results of journaled calls are sealed from now on; `result` holds those that were stored in clear before.
ALTER TABLE dialog.journal ADD COLUMN sealed_result bytea;
