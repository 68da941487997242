"""The outbox's statements, and the rows that they take many of."""

from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from services.delivery.postgres.rows import BigInt, Rows
from services.delivery.postgres.sealing import CONTENT_COLUMNS
from services.runtime.queries import load_queries


class NewRow(NamedTuple):
    """A delivery to store. `begun` are its parts as they are when it is sent at once."""

    delivery_id: UUID
    tenant_id: str
    request_id: str
    channel_key: int
    channel_id: str
    conversation_id: UUID
    chat_id: str
    message_id: UUID | None
    reply_index: int
    sealed_text: bytes | None
    sealed_content: bytes | None
    parts: str | None
    traceparent: str
    tracestate: str
    lane_id: UUID
    begun: str | None
    priority: int


class StartRow(NamedTuple):
    """A call that is about to be made."""

    tenant_id: str
    delivery_id: UUID
    revision: int
    lane_id: UUID
    fence: BigInt
    tries: int
    parts: str


class ChangeRow(NamedTuple):
    """What came of a call. `parts` is None when they stay. `dead`: how many are; -1 when it was dead and is no more."""

    tenant_id: str
    delivery_id: UUID
    revision: int
    state: int
    tries: int
    parts: str | None
    sent_at: datetime | None
    channel_key: int
    part: int
    provider_message_id: str
    outcome: int
    outcome_at: datetime | None
    error: str
    dead: int


class SettleRow(NamedTuple):
    """The end of a lease, which holds only if the change of `delivery_id` does."""

    lane_id: UUID
    fence: BigInt
    done: int
    due_in: float
    delivery_id: UUID | None


NEW, START, CHANGE = Rows(NewRow), Rows(StartRow), Rows(ChangeRow)
SETTLE = Rows(SettleRow, CHANGE.after)
QUEUED = f"""delivery_id, tenant_id, seq, channel_key, chat_id, message_id, reply_index, traceparent, tracestate,
    revision, parts, priority, {CONTENT_COLUMNS}"""
QUERIES = load_queries(
    Path(__file__).with_suffix(".sql"),
    contents=CONTENT_COLUMNS,
    queued=QUEUED,
    new_arrays=NEW.arrays,
    new_columns=NEW.columns,
    holder=f"${NEW.after}",
    ttl=f"${NEW.after + 1}",
    start_arrays=START.arrays,
    start_columns=START.columns,
    first_started=f"${START.after}",
    last_started=f"${START.after + 1}",
    change_arrays=CHANGE.arrays,
    change_columns=CHANGE.columns,
    settle_arrays=SETTLE.arrays,
    settle_columns=SETTLE.columns,
    first_changed=f"${SETTLE.after}",
    last_changed=f"${SETTLE.after + 1}",
)
