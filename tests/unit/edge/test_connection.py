"""A connection fed by hand: however the bytes are cut, and whatever they are."""

import asyncio
import re
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from services.edge.server.addresses import Proxies
from services.edge.server.admission import Admission
from services.edge.server.bounds import Bounds
from services.edge.server.connection import Connection

UPGRADE = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
REQUESTS = (
    b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n"
    b"POST /b HTTP/1.1\r\nContent-Length: 3\r\n\r\nxyz"
    b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;e=f\r\nc\r\n0\r\nTrailer: t\r\n\r\n"
    b"POST /d HTTP/1.1\r\n" + UPGRADE + b"Content-Length: 4\r\n\r\nwxyz"
    b"GET /e HTTP/1.1\r\n" + UPGRADE + b"Connection: close\r\n\r\n"
)
ANSWERS = [b"/a", b"/bxyz", b"/cabc", b"/dwxyz", b"/e"]


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 4711)})
        self.written = b""
        self.closed = self.paused = False

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body, more = scope["path"].encode(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message["body"], message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def feed(pieces: list[bytes]) -> tuple[Transport, Admission]:
    """What becomes of a connection that gets these, and then ends."""
    admission, transport = Admission(Bounds(), Proxies("")), Transport()
    connection = Connection(admission, echo)
    connection.connection_made(transport)
    for piece in pieces:
        connection.data_received(piece)
        for _ in range(20):
            await asyncio.sleep(0)
    connection.connection_lost(None)
    while admission.requests:
        await asyncio.sleep(0)
    return transport, admission


@given(st.lists(st.integers(0, len(REQUESTS)), max_size=12))
def test_requests_are_the_same_however_they_are_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(REQUESTS)]
    pieces = [REQUESTS[start:end] for start, end in pairwise(edges) if start < end]
    transport, admission = asyncio.run(feed(pieces))
    assert re.findall(rb"\r\n\r\n(/[a-z]*)", transport.written) == ANSWERS
    assert transport.closed and not admission.connections and not admission.refused


NOISE = st.sampled_from([b"\r\n", b"\r\n\r\n", b"GET / HTTP/1.1\r\n", UPGRADE, b"\x00", b": ", b"0\r\n\r\n"])
FRAMES = st.sampled_from([b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n"])


@given(st.lists(st.one_of(NOISE, FRAMES, st.binary(max_size=40)), max_size=20))
def test_nothing_that_comes_raises_or_stays(pieces: list[bytes]) -> None:
    transport, admission = asyncio.run(feed([piece for piece in pieces if piece]))
    assert not admission.connections and not admission.requests
    assert all(status in (b"200", b"400") for status in re.findall(rb"HTTP/1.1 (\d+)", transport.written))


def test_a_body_of_two_lengths_is_refused() -> None:
    """What a proxy before us would read otherwise than we do."""
    for framing in (
        b"Content-Length: 3\r\nTransfer-Encoding: chunked",
        b"Content-Length: 3\r\nContent-Length: 4",
        b"Content-Length: +3",
        b"Transfer-Encoding: chunked, gzip",
        b"Transfer-Encoding : chunked",
    ):
        for extra in (b"", UPGRADE):
            request = b"POST / HTTP/1.1\r\n" + extra + framing + b"\r\n\r\n0\r\n\r\n"
            transport, _ = asyncio.run(feed([request]))
            assert transport.written.startswith(b"HTTP/1.1 400 "), framing
