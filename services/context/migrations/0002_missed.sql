-- Saved documents of which Redis did not hear, by the name that Redis has for them: what it holds of them is stale. A row
-- goes as soon as somebody has told Redis.
CREATE TABLE context.missed (
    name    text   PRIMARY KEY,
    version bigint NOT NULL
);
