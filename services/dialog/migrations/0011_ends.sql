-- For how many days traces and orders of a tenant are kept; NULL for as long as the settings say.
ALTER TABLE dialog.tenants ADD COLUMN spans_days integer, ADD COLUMN orders_days integer;
