"""What the edge does for callers who guess, go away in the middle, or bring a trace of their own."""

import asyncio
import json

import pytest
from opentelemetry import trace
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.integration.edge.conftest import SECRET, Edge, inbox
from tests.support.spans import recording


async def test_unknown_channels_cost_their_address_and_known_ones_go_on(edge: Edge) -> None:
    answers = [await edge.hook(channel=f"guess-{number}") for number in range(15)]
    assert [status for status, _, _ in answers] == [404] * 10 + [429] * 5
    assert answers[-1][1]["reason"] == "TOO_MANY_FAILURES" and 0 < int(answers[-1][2]["retry-after"]) <= 60
    assert len(edge.delivery.asked) == 10  # the others cost nobody a question
    assert (await edge.hook())[0] == 200


async def test_wrong_secrets_cost_their_address_and_right_ones_go_on(edge: Edge) -> None:
    answers = [await edge.hook(secret=f"guess-{number}") for number in range(12)]
    assert [status for status, _, _ in answers] == [401] * 10 + [429] * 2
    assert (await edge.hook())[0] == 200


async def test_unknown_keys_cost_their_address_and_proven_ones_go_on(edge: Edge) -> None:
    body = {"telegram_id": 1, "message": "hi"}
    assert (await edge.chat(body))[0] == 200
    answers = [await edge.chat(body, key=f"bad-{number}") for number in range(12)]
    assert [status for status, _, _ in answers] == [401] * 10 + [429] * 2
    assert len(edge.dialog.verified) == 11
    assert (await edge.chat(body))[0] == 200
    assert (await edge.chat(body, key="good-but-never-seen"))[0] == 429


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/webhooks/chat2desk/nowhere", "", 404),
        ("/webhooks/chat2desk/c2d?secret=wrong", "", 401),
        (f"/webhooks/chat2desk/c2d?secret={SECRET}", "Content-Length: 1000001", 413),
        (f"/webhooks/chat2desk/c2d?secret={SECRET}", "Content-Type: multipart/form-data", 422),
        ("/v1/chat/send", "X-API-KEY: bad", 401),
        ("/v1/chat/stream", "X-API-KEY: bad", 401),
        ("/v1/chat/send", "X-API-KEY: good\r\nContent-Length: 1000001", 413),
        ("/nothing", "", 404),
    ],
)
async def test_what_the_address_and_the_headers_show_is_answered_before_the_body(
    edge: Edge, path: str, headers: str, status: int
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(edge.url.rpartition(":")[2]))
    length = "" if "Content-Length" in headers else "Content-Length: 500\r\n"
    writer.write(f"POST {path} HTTP/1.1\r\n{headers}{headers and chr(13) + chr(10)}{length}\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 30)
    assert answer.startswith(b"HTTP/1.1 %d " % status) and b"application/problem+json" in answer
    writer.close()


async def test_who_goes_away_in_the_middle_is_no_error(edge: Edge, capfd: pytest.CaptureFixture[str]) -> None:
    for head in (f"webhooks/chat2desk/c2d?secret={SECRET} HTTP/1.1", "v1/chat/send HTTP/1.1\r\nX-API-KEY: good"):
        _, writer = await asyncio.open_connection("127.0.0.1", int(edge.url.rpartition(":")[2]))
        writer.write(f"POST /{head}\r\nContent-Length: 50\r\n\r\n{{".encode())
        await asyncio.sleep(0.3)
        writer.transport.abort()
    await asyncio.sleep(0.3)
    said = capfd.readouterr()
    assert "failed" not in said.out + said.err and "Traceback" not in said.out + said.err
    assert (await edge.hook())[0] == 200


async def test_who_goes_away_in_the_middle_of_a_stream_is_no_error(
    edge: Edge, capfd: pytest.CaptureFixture[str]
) -> None:
    body = b'{"user_id": "u", "message": "wait"}'
    reader, writer = await asyncio.open_connection("127.0.0.1", int(edge.url.rpartition(":")[2]))
    head = f"POST /v1/chat/stream HTTP/1.1\r\nX-API-KEY: good\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await asyncio.wait_for(reader.readuntil(b"event: delta"), 30)
    writer.transport.abort()
    async with asyncio.timeout(30):
        while not edge.dialog.abandoned:  # nobody goes on asking for whom nobody waits
            await asyncio.sleep(0.02)
    said = capfd.readouterr()
    assert "failed" not in said.out + said.err and "Traceback" not in said.out + said.err


async def test_a_callers_trace_context_is_linked_and_not_continued(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes from outside says neither whose trace is written into nor what is recorded."""
    recorded: list[Span] = []
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", recording(recorded))
    foreign = f"00-{0xABC:032x}-{0xDEF:016x}-01"
    await edge.chat({"telegram_id": 5, "message": "hi"}, traceparent=foreign)
    hook = {"X-Webhook-Secret": SECRET, "traceparent": foreign}
    async with edge.http.post(f"{edge.url}/webhooks/chat2desk/c2d", data=json.dumps(inbox()), headers=hook) as response:
        assert response.status == 200
    for name in ("POST /v1/chat/send", "POST /webhooks/chat2desk/{channel_id}"):
        span = next(span for span in recorded if span.name == name)
        assert span.trace_id != (0xABC).to_bytes(16)
        assert not span.parent_span_id
        assert [link.span_id for link in span.links] == [(0xDEF).to_bytes(8)]
