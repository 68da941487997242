"""Says in words why something waits. Pure functions."""

from collections import Counter
from collections.abc import Iterable

from google.protobuf.timestamp_pb2 import Timestamp

from parley.common.v1 import waiting_pb2

from parley_cli.output import clock

SHORT = {
    waiting_pb2.WAIT_REASON_QUEUED: "due",
    waiting_pb2.WAIT_REASON_BEHIND: "behind others",
    waiting_pb2.WAIT_REASON_IN_PROGRESS: "in progress",
    waiting_pb2.WAIT_REASON_BOT_DISABLED: "bot disabled",
    waiting_pb2.WAIT_REASON_RETRY: "tried again",
    waiting_pb2.WAIT_REASON_PUT_OFF: "put off",
    waiting_pb2.WAIT_REASON_EFFECTS: "answer stuck",
    waiting_pb2.WAIT_REASON_CHANNEL_DISABLED: "channel disabled",
    waiting_pb2.WAIT_REASON_CHANNEL_BROKEN: "channel broken",
    waiting_pb2.WAIT_REASON_RATE: "rate",
    waiting_pb2.WAIT_REASON_BREAKER: "provider away",
}
LONG = {
    waiting_pb2.WAIT_REASON_QUEUED: "it is due, but no worker has taken it yet: all are busy, or none runs",
    waiting_pb2.WAIT_REASON_BEHIND: "{ahead} earlier of its conversation come first",
    waiting_pb2.WAIT_REASON_IN_PROGRESS: "a worker has it now",
    waiting_pb2.WAIT_REASON_BOT_DISABLED: "its bot is disabled; `parley bots enable` lets it answer",
    waiting_pb2.WAIT_REASON_RETRY: "it failed, and is tried again{until}{detail}",
    waiting_pb2.WAIT_REASON_PUT_OFF: "it is put off{until}{detail}",
    waiting_pb2.WAIT_REASON_EFFECTS: "it is answered, but the answer cannot be carried out; again{until}{detail}",
    waiting_pb2.WAIT_REASON_CHANNEL_DISABLED: "its channel is disabled; `parley channels enable` opens it",
    waiting_pb2.WAIT_REASON_CHANNEL_BROKEN: "its channel is broken{detail}; mend it, then `parley channels enable`",
    waiting_pb2.WAIT_REASON_RATE: "the provider's rate allows no more calls{until}",
    waiting_pb2.WAIT_REASON_BREAKER: "calls of its channel fail, and pause{until}{detail}",
}


def briefly(waiting: waiting_pb2.Waiting) -> str:
    """Returns the reason for a table, such as `bot disabled`; nothing if it does not wait."""
    return SHORT.get(waiting.reason, "")


def in_words(waiting: waiting_pb2.Waiting) -> str:
    """Returns what it waits for, until when, and what to do; nothing if it does not wait."""
    words = LONG.get(waiting.reason, "")
    until = f" until {clock(waiting.until)}" if has_time(waiting.until) else ""
    if waiting.reason in (waiting_pb2.WAIT_REASON_RETRY, waiting_pb2.WAIT_REASON_EFFECTS):
        until = until.replace("until", "at", 1)
    detail = f": {waiting.detail}" if waiting.detail else ""
    return words.format(ahead=waiting.ahead, until=until, detail=detail)


def has_time(value: Timestamp) -> bool:
    return bool(value.seconds or value.nanos)


def counted(waits: Iterable[waiting_pb2.Waiting]) -> str:
    """Counts the reasons, most frequent first: `12 bot disabled, 3 behind others`."""
    reasons = Counter(briefly(each) for each in waits if briefly(each))
    return ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
