"""How plans, frozen inputs and bots' settings are stored.

Plans and inputs are MessagePack with a version in front: a process can carry out what an older one has planned. Fields
are only added, at the end and with a default.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from services.dialog.domain.bots import (
    BY_OWNER,
    FLOW_KINDS,
    Bot,
    FlowSettings,
    UnknownFlow,
)
from services.dialog.domain.flows import (
    Dialog,
    HistoryEntry,
    Inbound,
    Known,
    Open,
    TurnInput,
    TurnPlan,
)
from services.dialog.domain.turns import (
    Failure,
    Outcome,
    Plan,
    Refused,
)
from services.runtime.content import is_text, pack, unpack

_VERSION = 1
_RICH = 2
"""The version of a plan with a reply that is more than a text; those that know texts only leave it to others."""


class _PlanRecord(msgspec.Struct, array_like=True, frozen=True):
    version: int
    outcome: int
    replies: Sequence[Any]
    """As `pack` makes them: texts, or bytes where there is more than a text."""
    dialog: Dialog | None
    remember: Sequence[HistoryEntry]
    clear_history: bool
    charge_quota: bool
    contact_id: str
    dialog_ttl: float
    bot_revision: int
    reservation_id: str
    remaining: int | None
    refused: Refused | None
    failure: Failure | None
    open: Open | None = None


class _InputsRecord(msgspec.Struct, array_like=True, frozen=True):
    version: int
    bot: dict[str, Any]
    messages: Sequence[Inbound]
    known: Known
    now: datetime
    default_region: str
    time_zone: str = "UTC"


Record = TypeVar("Record", _PlanRecord, _InputsRecord)
_OWNED = [each for each in fields(Bot) if each.name in BY_OWNER - {"flow"}]


class NewerRecord(ValueError):
    """A row that a newer version has written: this one cannot read it, and that one can."""


_encode = msgspec.msgpack.Encoder().encode
_decode_plan = msgspec.msgpack.Decoder(_PlanRecord).decode
_decode_inputs = msgspec.msgpack.Decoder(_InputsRecord).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def pack_plan(plan: Plan) -> bytes:
    """A plan without its rows (orders, usage), which have tables of their own."""
    decided = plan.decided
    return _encode(
        _PlanRecord(
            _VERSION if all(map(is_text, decided.replies)) else _RICH,
            plan.outcome,
            list(map(pack, decided.replies)),
            decided.dialog,
            decided.remember,
            decided.clear_history,
            decided.charge_quota,
            plan.contact_id,
            plan.dialog_ttl,
            plan.bot_revision,
            plan.reservation_id,
            plan.remaining,
            plan.refused,
            plan.failure,
            decided.open,
        )
    )


def unpack_plan(packed: bytes, *, turn_id: UUID, first_seq: int, last_seq: int) -> Plan:
    record = _read(_decode_plan, packed, "a plan")
    if record.outcome not in list(Outcome):
        raise NewerRecord(f"a plan with the outcome {record.outcome}")
    decided = TurnPlan(
        replies=list(map(unpack, record.replies)),
        dialog=record.dialog,
        remember=record.remember,
        clear_history=record.clear_history,
        charge_quota=record.charge_quota,
        open=record.open,
    )
    return Plan(
        turn_id=turn_id,
        first_seq=first_seq,
        last_seq=last_seq,
        outcome=Outcome(record.outcome),
        decided=decided,
        contact_id=record.contact_id,
        dialog_ttl=record.dialog_ttl,
        bot_revision=record.bot_revision,
        reservation_id=record.reservation_id,
        remaining=record.remaining,
        refused=record.refused,
        failure=record.failure,
    )


def pack_inputs(inputs: TurnInput) -> bytes:
    bot = inputs.bot
    asked = {
        "tenant_id": bot.tenant_id,
        "bot_id": bot.bot_id,
        "revision": bot.revision,
        "settings": settings_of(bot),
    }
    return _encode(
        _InputsRecord(
            _VERSION, asked, inputs.messages, inputs.known, inputs.now, inputs.default_region, inputs.time_zone
        )
    )


def unpack_inputs(packed: bytes, turn_id: UUID) -> TurnInput:
    record = _read(_decode_inputs, packed, "inputs")
    bot = bot_of(record.bot["tenant_id"], record.bot["bot_id"], record.bot["settings"])
    if isinstance(bot.flow, UnknownFlow):
        raise NewerRecord(f"inputs with the flow {bot.flow.name!r}")
    return TurnInput(
        turn_id=str(turn_id),
        bot=replace(bot, revision=record.bot["revision"]),
        messages=record.messages,
        known=record.known,
        now=record.now,
        default_region=record.default_region,
        time_zone=record.time_zone,
    )


def settings_of(bot: Bot) -> str:
    """What a bot's owner sets, as JSON, times in seconds; what the service itself keeps of a bot is not in it."""
    flow = bot.flow
    if isinstance(flow, UnknownFlow):
        return flow.settings
    record: dict[str, Any] = {name: flow for name, kind in FLOW_KINDS.items() if isinstance(flow, kind)}
    for each in _OWNED:
        value = getattr(bot, each.name)
        if value or each.default:
            record[each.name] = value.total_seconds() if isinstance(value, timedelta) else value
    return msgspec.json.encode(record).decode()


def bot_of(tenant_id: str, bot_id: str, settings: str) -> Bot:
    """A bot as `settings_of` has written it, enabled and unbroken. A flow that cannot be read is an `UnknownFlow`."""
    try:
        record = _decode_fields(settings)
        flows: list[FlowSettings] = [
            msgspec.json.decode(record[name], type=kind) for name, kind in FLOW_KINDS.items() if name in record
        ]
        owned = {
            each.name: msgspec.json.decode(record[each.name], type=each.type, strict=False)  # times are numbers
            for each in _OWNED
            if each.name in record
        }
    except msgspec.DecodeError as error:
        return Bot(tenant_id, bot_id, UnknownFlow(f"unreadable: {error}", settings))
    if flows:
        return Bot(tenant_id, bot_id, flows[0], **owned)
    unknown = sorted(record.keys() - owned.keys())
    return Bot(tenant_id, bot_id, UnknownFlow(unknown[0] if unknown else "", settings), **owned)


def _read(decode: Callable[[bytes], Record], packed: bytes, what: str) -> Record:
    """A record of a version that is known here. Raises NewerRecord, and msgspec.DecodeError for a damaged one."""
    try:
        record = decode(packed)
    except msgspec.DecodeError:
        if _version(packed) > _RICH:
            raise NewerRecord(f"{what} of version {_version(packed)}") from None
        raise
    if record.version > _RICH:
        raise NewerRecord(f"{what} of version {record.version}")
    return record


def _version(packed: bytes) -> int:
    """The version of a record with other fields than are known; 0 of what is no record."""
    try:
        fields = msgspec.msgpack.decode(packed)
    except msgspec.DecodeError:
        return 0
    first = fields[0] if isinstance(fields, list) and fields else 0
    return first if isinstance(first, int) else 0


def plain_json(value: Mapping[str, Any]) -> str:
    return msgspec.json.encode(value).decode()


def from_json(text: str) -> Any:
    return msgspec.json.decode(text)
