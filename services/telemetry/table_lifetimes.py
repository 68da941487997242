"""What ends the rows of telemetry's tables."""

from services.runtime.table_lifetimes import MIGRATIONS, UPKEEP, Kept

KEPT = {
    "pieces": Kept(
        "spans of a trace",
        "its day is thinned out to failed and slow traces, and dropped after `PARLEY_TELEMETRY_IMPORTANT_DAYS`; of a "
        "tenant that keeps less, all goes after its own days",
        setting="telemetry_days",
        tenant="spans_days",
    ),
    "days": Kept("a day that has a partition", "the day is dropped"),
    "upkeep": UPKEEP,
    "schema_migrations": MIGRATIONS,
}
