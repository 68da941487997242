"""What ends the rows of limits' tables."""

from datetime import timedelta

from services.runtime.idempotency import KEPT as REQUESTS
from services.runtime.table_lifetimes import MIGRATIONS, Kept

KEPT = {
    "rules": Kept("a rule", "an operator deletes it"),
    "overrides": Kept("another limit of a rule for one subject", "an operator takes it back"),
    "tenants": Kept("a tenant's time zone", "it stays: there is one for each tenant"),
    "state": Kept("what revision rules and counters have", "it stays: there is one"),
    "counters": Kept("what was used in a calendar period", "the period began so long ago", time=timedelta(days=92)),
    "charges": Kept("a reservation that was charged", "it was charged so long ago", time=timedelta(days=7)),
    "holds": Kept("units held while Redis was away", "they expired so long ago", time=timedelta(hours=1)),
    "requests": Kept("an answered request id", "it came so long ago", time=REQUESTS),
    "schema_migrations": MIGRATIONS,
}
