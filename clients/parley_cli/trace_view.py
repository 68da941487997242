"""Prints a message's trace."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from google.protobuf.json_format import MessageToDict
from rich.console import Console
from rich.table import Table
from rich.text import Text

from parley.delivery.v1 import delivery_pb2
from parley.dialog.v1 import dialog_pb2
from parley.telemetry.v1 import telemetry_pb2

from parley_cli import waterfall
from parley_cli.output import as_dict, console, enum_label
from parley_cli.stages import Stage, at, stages
from parley_cli.waits import in_words

NAME, BAR = 52, 24
"""Widths of the waterfall's names and bars, in characters."""
SERVICES = {"edge": "cyan", "dialog": "green", "context": "magenta", "limits": "yellow", "delivery": "blue"}


def as_json(
    message: dialog_pb2.Message, deliveries: Sequence[delivery_pb2.Delivery], spans: Sequence[telemetry_pb2.Span]
) -> dict[str, Any]:
    """Returns the trace as one document. `stages` come from the stored states, so they are there without spans too."""
    return {
        "trace_id": message.trace_id,
        "message_id": message.message_id,
        "state": state_of(message),
        "waiting": as_dict(message.waiting) if message.HasField("waiting") else None,
        "spans": [span_as_json(span) for span in spans],
        "stages": [
            {
                "name": stage.name,
                "start": stage.start.isoformat(),
                "duration_ms": None if stage.duration is None else round(stage.duration * 1e3, 3),
                "waiting": stage.waiting,
                "detail": stage.detail,
            }
            for stage in stages(message, deliveries)
        ],
        "deliveries": [as_dict(delivery, id="delivery_id") for delivery in deliveries],
    }


def span_as_json(span: telemetry_pb2.Span) -> dict[str, Any]:
    status = enum_label("SpanStatus", telemetry_pb2.SpanStatus.Name(span.status)) or "UNSET"
    began = at(span.started_at)
    return {
        "span_id": span.span_id,
        "parent_id": span.parent_id,
        "name": span.name,
        "service": span.service,
        "kind": enum_label("SpanKind", telemetry_pb2.SpanKind.Name(span.kind)),
        "start": began.isoformat() if began else None,
        "duration_ms": round(waterfall.milliseconds(span.duration), 3),
        "status": status,
        "status_message": span.status_message,
        "attributes": dict(span.attributes),
        "linked_trace_ids": list(span.linked_trace_ids),
        "events": [MessageToDict(event, preserving_proto_field_name=True) for event in span.events],
    }


def show(
    message: dialog_pb2.Message,
    deliveries: Sequence[delivery_pb2.Delivery],
    spans: Sequence[telemetry_pb2.Span],
    out: Console | None = None,
) -> None:
    """Prints the tree of spans or, without spans, the stored states."""
    out = out or console()
    received = at(message.received_at)
    heading = Text("message ", style="bold").append(message.message_id)
    heading.append(
        f"  {state_of(message)}", style="green" if message.state == dialog_pb2.MESSAGE_STATE_COMPLETED else "yellow"
    )
    out.print(heading)
    out.print(Text(f"channel {message.channel_id}, conversation {message.conversation_id}", style="dim"))
    if received:
        out.print(
            Text(f"received {received.astimezone():%Y-%m-%d %H:%M:%S.%f}, trace {message.trace_id or '-'}", style="dim")
        )
    out.print()
    if spans:
        show_spans(waterfall.lines(spans), out)
    else:
        out.print(Text("No spans of it are kept; these are the stored states.", style="yellow"))
        show_stages(stages(message, deliveries), out)
    for waiting in (message.waiting, *(delivery.waiting for delivery in deliveries)):
        if why := in_words(waiting):
            out.print(Text(f"waits: {why}", style="yellow"))
    for text in (message.last_error, message.terminal_reason):
        if text:
            out.print(Text(text, style="red"))


def show_spans(lines: Sequence[waterfall.Line], out: Console) -> None:
    """Prints the waterfall and its total."""
    whole = waterfall.total(lines)
    first = min(line.start for line in lines)
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("", no_wrap=True, max_width=NAME, overflow="ellipsis")
    table.add_column("service", no_wrap=True, min_width=9)
    table.add_column("at", no_wrap=True, justify="right", min_width=8)
    table.add_column("took", no_wrap=True, justify="right", min_width=8)
    table.add_column("", no_wrap=True, min_width=BAR)
    table.add_column("", no_wrap=True, overflow="ellipsis")
    for line in lines:
        style = "dim italic" if line.waiting else "red" if line.failed else ""
        table.add_row(
            Text("  " * line.depth + line.name, style=style),
            Text(line.service, style=SERVICES.get(line.service, "white")),
            Text(length((line.start - first) / 1e3), style="dim"),
            Text(length(line.duration / 1e3), style=style),
            bar(line, first, whole),
            Text(line.detail, style="red" if line.failed else "dim"),
        )
    out.print(table)
    waited = waterfall.waiting(lines)
    out.print()
    out.print(f"{length(whole / 1e3)} in all, {length(waited / 1e3)} of it waiting in queues")


def bar(line: waterfall.Line, first: float, whole: float) -> Text:
    """Draws a line's place in the whole."""
    scale = BAR / whole if whole else 0.0
    before = min(int((line.start - first) * scale), BAR - 1)
    width = min(max(1, round(line.duration * scale)), BAR - before)
    style = "dim" if line.waiting else "red" if line.failed else SERVICES.get(line.service, "white")
    return Text(" " * before).append(("·" if line.waiting else "━") * width, style=style)


def show_stages(found: Sequence[Stage], out: Console) -> None:
    """Prints the stored states, one per line."""
    if not found:
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    first = found[0].start
    for stage in found:
        took = "not yet over" if stage.duration is None else length(stage.duration)
        since = f"+{length((stage.start - first).total_seconds())}"
        style = "dim italic" if stage.waiting else ""
        table.add_row(Text(since, style="dim"), Text(stage.name, style=style), took, Text(stage.detail, style="dim"))
    out.print(table)
    done = [stage for stage in found if stage.duration is not None]
    if len(done) == len(found):
        last = max(stage.start + timedelta(seconds=stage.duration or 0.0) for stage in found)
        waited = sum(stage.duration or 0.0 for stage in found if stage.waiting)
        out.print(f"\n{length((last - first).total_seconds())} in all, {length(waited)} of it waiting in queues")


def length(seconds: float) -> str:
    """Formats a duration: `0.4 ms`, `12 ms`, `3.1 s`, `4 min 5 s`."""
    if seconds < 0.01:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def state_of(message: dialog_pb2.Message) -> str:
    return enum_label("MessageState", dialog_pb2.MessageState.Name(message.state))
