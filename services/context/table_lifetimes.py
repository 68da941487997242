"""What ends the rows of context's tables."""

from services.runtime.table_lifetimes import MIGRATIONS, UPKEEP, Kept

MESSAGES = "retention_messages_days"

KEPT = {
    "conversations": Kept(
        "what is remembered of a conversation, sealed",
        "it is emptied when its namespaces have expired (`PARLEY_CONTEXT_..._SECONDS`), and the row, with its version, "
        "goes so long after that",
        setting=MESSAGES,
    ),
    "contacts": Kept(
        "what is remembered of a person, sealed",
        "it is emptied when its namespaces have expired, and the row goes so long after that, when no conversation of "
        "the person is left",
        setting=MESSAGES,
    ),
    "identities": Kept(
        "a phone number or messenger id of a person, sealed",
        "nobody has looked it up for so long and neither the person's contact nor a conversation is left",
        setting=MESSAGES,
    ),
    "missed": Kept("a save of which Redis has not heard", "Redis has been told"),
    "upkeep": UPKEEP,
    "schema_migrations": MIGRATIONS,
}
