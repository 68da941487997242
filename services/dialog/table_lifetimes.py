"""What ends the rows of dialog's tables."""

from dataclasses import replace
from functools import partial

from services.dialog.postgres.inbox import DEDUPE_FOR
from services.dialog.postgres.retention import SILENT
from services.runtime.idempotency import KEPT as REQUESTS
from services.runtime.table_lifetimes import LANE, MIGRATIONS, UPKEEP, Kept

_message = partial(Kept, setting="retention_messages_days", tenant="messages_days")
_WITH_IT = "its message goes"

KEPT = {
    "messages": _message(
        "an inbound message, its body sealed",
        "its four weeks are dropped, or of a tenant that keeps less the row; not while it waits for its answer",
    ),
    "turns": _message("an answer's plan and cost, sealed", _WITH_IT),
    "replies": _message("what became of a reply", _WITH_IT),
    "dialog_outcomes": _message("the end of a dialog", "it ended so long ago"),
    "conversations": _message("a conversation that operators see in lists", "it has been silent for so long"),
    "journal": Kept(
        "a call of a model or tool, its result sealed",
        "its week is dropped, or of a tenant that keeps less the row; not while its turn goes on",
        setting="retention_journal_days",
        tenant="journal_days",
    ),
    "orders": Kept("an order", "it was written so long ago", setting="retention_orders_days", tenant="orders_days"),
    "api_keys": Kept(
        "an API key, its secret hashed", "it was revoked or over so long ago", setting="retention_messages_days"
    ),
    "dedupe": Kept("the provider's id of a message", "it came so long ago", time=DEDUPE_FOR),
    "lanes": replace(LANE, time=SILENT),
    "awakenings": Kept("a bot whose parked lanes are being woken", "they are awake"),
    "bots": Kept("a bot", "an operator deletes it"),
    "tenants": Kept("a tenant", "it stays"),
    "requests": Kept("an answered request id of an operator", "it came so long ago", time=REQUESTS),
    "upkeep": UPKEEP,
    "schema_migrations": MIGRATIONS,
}
