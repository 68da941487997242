-- For how many days each tenant's data is kept: 0 for ever, NULL for as long as the settings say.
ALTER TABLE dialog.tenants
    ADD COLUMN messages_days integer,
    ADD COLUMN journal_days integer,
    ADD COLUMN deliveries_days integer,
    ADD COLUMN spans_days integer;
