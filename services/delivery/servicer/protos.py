"""Between the contract's messages and the domain."""

from datetime import UTC, datetime

import msgspec
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp

from parley.common.v1 import waiting_pb2
from parley.delivery.v1 import channel_pb2, delivery_pb2

from services.delivery.domain.attempts import Attempt
from services.delivery.domain.channels import Channel, ProviderKind, Settings
from services.delivery.domain.outbox import Delivery
from services.delivery.domain.parts import OPEN, Part
from services.delivery.domain.waiting import Waiting
from services.runtime.content import is_text


def timestamp(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def moment(milliseconds: int) -> Timestamp | None:
    """Of Unix milliseconds; None for 0."""
    return timestamp(datetime.fromtimestamp(milliseconds / 1000, UTC)) if milliseconds else None


def channel_message(channel: Channel) -> channel_pb2.Channel:
    """Without its secrets."""
    return channel_pb2.Channel(
        tenant_id=channel.tenant_id,
        channel_id=channel.channel_id,
        provider=channel_pb2.Provider.ValueType(channel.provider),
        bot_id=channel.bot_id,
        settings=settings_message(channel.provider, channel.settings),
        api_base=channel.api_base,
        enabled=channel.enabled,
        broken_reason=channel.broken_reason,
        secret_names=sorted(name for name, secret in channel.secrets.items() if secret),
        has_token=bool(channel.token),
        revision=channel.revision,
        created_at=timestamp(channel.created_at),
        updated_at=timestamp(channel.updated_at),
    )


def settings_message(provider: ProviderKind, settings: Settings) -> channel_pb2.ChannelSettings:
    return channel_pb2.ChannelSettings(**{provider.name.lower(): msgspec.to_builtins(settings)})


def settings_of(message: channel_pb2.ChannelSettings, kind: type[Settings]) -> Settings:
    """The settings in a message whose `oneof` has that kind set."""
    given = getattr(message, message.WhichOneof("provider") or "")
    return msgspec.convert(MessageToDict(given, preserving_proto_field_name=True), kind, strict=False)


def delivery_message(delivery: Delivery, waiting: Waiting | None = None) -> delivery_pb2.Delivery:
    return delivery_pb2.Delivery(
        waiting=_waiting(waiting),
        delivery_id=str(delivery.delivery_id),
        tenant_id=delivery.tenant_id,
        channel_id=delivery.channel_id,
        conversation_id=str(delivery.conversation_id),
        chat_id=delivery.chat_id,
        request_id=delivery.request_id,
        message_id=str(delivery.message_id or ""),
        content=delivery.content,
        priority=delivery_pb2.Priority.ValueType(delivery.priority),
        parts=[_part(delivery, index, part) for index, part in enumerate(delivery.parts)],
        created_at=timestamp(delivery.created_at),
        sent_at=timestamp(delivery.sent_at),
        delivered_at=timestamp(delivery.delivered_at),
        read_at=timestamp(delivery.read_at),
        trace_id=delivery.traceparent.split("-")[1] if delivery.traceparent else "",
    )


def _waiting(waiting: Waiting | None) -> waiting_pb2.Waiting | None:
    if waiting is None:
        return None
    return waiting_pb2.Waiting(
        reason=waiting_pb2.WaitReason.ValueType(waiting.reason),
        until=moment(waiting.until),
        detail=waiting.detail,
        ahead=waiting.ahead,
    )


def _part(delivery: Delivery, index: int, part: Part) -> delivery_pb2.Part:
    content = delivery.rendered[index]
    due = max(part.due, part.slot) if part.state in OPEN else 0
    return delivery_pb2.Part(
        index=index,
        text=content.text,
        content=None if is_text(content) else content,
        state=delivery_pb2.PartState.ValueType(part.state),
        attempts=[_attempt(number, attempt) for number, attempt in enumerate(part.attempts, 1)],
        due_at=moment(due) or (timestamp(delivery.created_at) if part.state in OPEN else None),
        provider_message_id=part.provider_message_id,
        sent_at=moment(part.sent),
        possibly_duplicate=part.possibly_duplicate,
        unknown_statuses=part.strange,
        last_unknown_status=part.strange_word,
    )


def _attempt(number: int, attempt: Attempt) -> delivery_pb2.Attempt:
    return delivery_pb2.Attempt(
        number=number,
        started_at=moment(attempt.started),
        ended_at=moment(attempt.ended),
        http_status=attempt.http_status,
        failure=delivery_pb2.FailureKind.ValueType(attempt.failure),
        error=attempt.error,
        provider_message_id=attempt.provider_message_id,
        status=delivery_pb2.ProviderStatus.ValueType(attempt.said),
    )
