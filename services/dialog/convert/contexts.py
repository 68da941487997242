"""What the context service keeps, as flows see it, and back. Made for each turn, so it is made to be fast."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from math import floor
from typing import Any
from uuid import UUID

from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from parley.context.v1 import context_pb2

from services.dialog.domain.flows import Dialog, HistoryEntry, Known
from services.dialog.domain.turns import Plan

_KEPT = 50
"""Entries that context keeps of a conversation, and takes in one save."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ROLES = {context_pb2.ROLE_USER: "user", context_pb2.ROLE_ASSISTANT: "assistant"}
_ROLE_NUMBERS = {name: number for number, name in _ROLES.items()}


def known_from(response: context_pb2.GetContextResponse) -> Known:
    """What a flow sees of a context."""
    snapshot = response.snapshot
    data = snapshot.dialog
    dialog = Dialog(
        flow=data.flow,
        flow_version=data.flow_version,
        step=data.step,
        slots=plain_struct(data.slots),
        started_at=_time(data.started_at) if data.HasField("started_at") else None,
        message_count=data.message_count,
        thread_id=data.thread_id,
    )
    return Known(
        contact_id=response.contact_id,
        name=snapshot.client.name,
        phone=snapshot.client.phone,
        dialog=dialog,
        history=[
            HistoryEntry(_ROLES[entry.role], entry.text, _time(entry.at))
            for entry in snapshot.messages.entries
            if entry.role in _ROLES
        ],
        version=response.version,
        preferences=dict(snapshot.preferences.values),
    )


def save_of(tenant_id: str, conversation_id: UUID, plan: Plan) -> context_pb2.SaveContextRequest:
    """The save of a plan, the same one each time that it is carried out."""
    decided = plan.decided
    request = context_pb2.SaveContextRequest(
        tenant_id=tenant_id,
        conversation_id=str(conversation_id),
        contact_id=plan.contact_id,
        request_id=f"{plan.turn_id}/0",
    )
    if decided.dialog is not None:
        request.update_mask.paths.append("dialog")
        _fill(request.changes.dialog, decided.dialog)
        if plan.dialog_ttl:
            request.dialog_ttl.FromNanoseconds(int(plan.dialog_ttl * 1e9))
    if decided.clear_history:
        request.update_mask.paths.append("messages")
        request.changes.messages.entries.extend(_entries(decided.remember[-_KEPT:]))
    else:
        request.append_messages.extend(_entries(decided.remember[-_KEPT:]))
    return request


def _fill(data: context_pb2.DialogData, dialog: Dialog) -> None:
    data.flow = dialog.flow
    data.flow_version = dialog.flow_version
    data.step = dialog.step
    set_struct(data.slots, dialog.slots)
    if dialog.started_at is not None:
        set_time(data.started_at, dialog.started_at)
    data.message_count = dialog.message_count
    data.thread_id = dialog.thread_id


def _entries(entries: Sequence[HistoryEntry]) -> list[context_pb2.HistoryEntry]:
    made = []
    for entry in entries:
        one = context_pb2.HistoryEntry(role=_ROLE_NUMBERS[entry.role], text=entry.text)
        set_time(one.at, entry.at)
        made.append(one)
    return made


def plain_struct(struct: Struct) -> Mapping[str, Any]:
    """A Struct as JSON values; whole numbers come back as integers."""
    return {name: _plain(value) for name, value in struct.fields.items()}


def _plain(value: Value) -> Any:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            number = value.number_value
            return int(number) if number == floor(number) and abs(number) < 2**53 else number
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return plain_struct(value.struct_value)
        case "list_value":
            return [_plain(item) for item in value.list_value.values]
        case _:
            return None


def _time(value: Timestamp) -> datetime:
    """As `ToDatetime`, and much faster; this happens with every turn."""
    return _EPOCH + timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)


def set_time(field: Timestamp, at: datetime) -> None:
    """As `FromDatetime` with an aware time, and much faster."""
    since = at - _EPOCH
    field.seconds = since.days * 86400 + since.seconds
    field.nanos = since.microseconds * 1000


def set_struct(struct: Struct, values: Mapping[str, Any]) -> None:
    """As `Struct.update`, with a short way for what slots mostly are."""
    fields = struct.fields
    for name, value in values.items():
        kind = type(value)
        if kind is str:
            fields[name].string_value = value
        elif kind is int or kind is float:
            fields[name].number_value = value
        else:
            struct[name] = value
