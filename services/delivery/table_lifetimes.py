"""What ends the rows of delivery's tables."""

from dataclasses import replace
from datetime import timedelta
from functools import partial

from services.delivery.postgres.retention import DELETED, REQUEST_IDS, SILENT
from services.runtime.idempotency import KEPT as REQUESTS
from services.runtime.table_lifetimes import LANE, MIGRATIONS, UPKEEP, Kept

_delivery = partial(Kept, setting="retention_deliveries_days", tenant="deliveries_days")

KEPT = {
    "deliveries": _delivery(
        "an outbound message with its parts and attempts, its text sealed",
        "its week is dropped, or of a tenant that keeps less the row; not while something is to be sent or told of it",
    ),
    "provider_ids": _delivery("a provider's id of a part", "its delivery goes"),
    "dead": _delivery("a dead letter", "it is sent again, or its delivery goes"),
    "dedupe": Kept("the request id of a delivery", "it came so long ago", time=REQUEST_IDS),
    "lanes": replace(LANE, time=SILENT),
    "outcomes": Kept("what dialog is still to be told", "dialog has been told, or has refused it for good"),
    "statuses": Kept("what a provider reported", "it came so long ago", time=timedelta(days=7)),
    "gates": Kept(
        "a channel whose breaker is open or that pauses", "nobody has used it for so long", time=timedelta(hours=1)
    ),
    "channels": Kept("a channel, its secrets sealed", "an operator deletes it"),
    "deleted_channels": Kept("word of a channel that was deleted", "it was deleted so long ago", time=DELETED),
    "requests": Kept("an answered request id of an operator", "it came so long ago", time=REQUESTS),
    "upkeep": UPKEEP,
    "schema_migrations": MIGRATIONS,
}
