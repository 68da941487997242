-- The ids of a delivery that goes before its stretch does are found by its id, which grows with time as the rows do: so an
-- index of a few entries is enough, and is hardly ever written.
CREATE INDEX provider_ids_by_delivery ON delivery.provider_ids USING brin (delivery_id)
    WITH (pages_per_range = 32, autosummarize = on);
