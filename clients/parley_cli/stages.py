"""A message's way as its stored states show it, for messages whose spans were not kept. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from parley.delivery.v1 import delivery_pb2
from parley.dialog.v1 import dialog_pb2


@dataclass(frozen=True)
class Stage:
    """A stage of a message's way. `duration` is in seconds, or None while the stage lasts."""

    name: str
    start: datetime
    duration: float | None
    waiting: bool = False
    detail: str = ""


def at(value: Timestamp) -> datetime | None:
    """Converts a time; returns None if it is not set."""
    if not (value.seconds or value.nanos):
        return None
    return datetime.fromtimestamp(value.seconds + value.nanos / 1e9, UTC)


def stage(
    name: str, start: datetime | None, end: datetime | None, *, waiting: bool = False, detail: str = ""
) -> list[Stage]:
    """Returns one stage, or none if it has not begun."""
    if start is None:
        return []
    duration = max(0.0, (end - start).total_seconds()) if end else None
    return [Stage(name, start, duration, waiting, detail)]


def stages(message: dialog_pb2.Message, deliveries: Sequence[delivery_pb2.Delivery]) -> list[Stage]:
    """Lists the stages from the message's commit to the provider's answers, in order of time."""
    received, started = at(message.received_at), at(message.started_at)
    generated, completed = at(message.generated_at), at(message.completed_at)
    attempts = f"attempt {message.attempts}" if message.attempts > 1 else ""
    found = [
        *stage("waiting for inbox", received, started or completed, waiting=True),
        *stage("decide", started, generated or completed, detail=attempts),
        *(stage("effects", generated, completed) if generated else []),
    ]
    for delivery in deliveries:
        for part in delivery.parts:
            found += part_stages(delivery, part)
    return sorted(found, key=lambda one: one.start)


def part_stages(delivery: delivery_pb2.Delivery, part: delivery_pb2.Part) -> list[Stage]:
    """Lists a part's waits and attempts."""
    name = f"part {part.index + 1} of {len(delivery.parts)}" if len(delivery.parts) > 1 else "reply"
    since = at(delivery.created_at)
    found: list[Stage] = []
    for attempt in part.attempts:
        began = at(attempt.started_at)
        found += stage(f"waiting for outbox ({name})", since, began, waiting=True)
        detail = f"HTTP {attempt.http_status}" if attempt.http_status else ""
        found += stage(
            f"send {name}, try {attempt.number}",
            began,
            at(attempt.ended_at),
            detail=" ".join(filter(None, (detail, attempt.error))),
        )
        since = at(attempt.ended_at)
    if part.state == delivery_pb2.PART_STATE_PENDING:
        found += stage(f"waiting for outbox ({name})", since, None, waiting=True)
    return found
