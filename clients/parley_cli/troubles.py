"""Says in a sentence what is wrong with a process of the stack. Pure functions."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from parley_cli.durations import format_seconds

RECENT = 600.0
"""Seconds for which a restart is worth telling."""


def trouble(process: Mapping[str, Any], now: datetime | None = None) -> str:
    """Returns `dialog does not answer since 12:00:05 UTC; started again 2 s ago`, or nothing if all is well."""
    now = now or datetime.now(UTC)
    again = restarted(process, now)
    if process["healthy"]:
        return f"{process['name']} is back; {again}" if again else ""
    what = process.get("found") or "is not healthy"
    since = moment(process.get("since"))
    told = f"{process['name']} {'does not run' if process['pid'] is None else what}"
    if since is not None:
        told += f" since {since.astimezone():%H:%M:%S %Z}"
    return f"{told}; {again}" if again else told


def restarted(process: Mapping[str, Any], now: datetime) -> str:
    """Returns `started again 2 s ago (it was ended by SIGKILL)`, or nothing if that is long ago."""
    started = moment(process.get("started_at"))
    if not process["restarts"] or started is None:
        return ""
    ago = (now - started).total_seconds()
    if process["healthy"] and ago > RECENT:
        return ""
    why = f" (it {process['last_end']})" if process.get("last_end") else ""
    return f"started again {format_seconds(max(0, round(ago)))} ago{why}"


def moment(value: object) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) and value else None
