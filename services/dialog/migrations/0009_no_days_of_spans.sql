-- Traces are kept for as long as telemetry's settings say.
ALTER TABLE dialog.tenants DROP COLUMN spans_days;
