"""The edge's HTTP server over raw sockets: whoever sends too much, too slowly or nonsense is told, and let go."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psutil
import pytest
from starlette.types import Receive, Scope, Send

from services.edge.server.bounds import Bounds
from services.edge.server.door import Door
from services.edge.server.http import HttpServer
from services.edge.server.peers import Proxies

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class App:
    """Answers with what it was told; reads the body first unless it is `/early`."""

    def __init__(self) -> None:
        self.seen: list[Scope] = []
        self.bodies: list[bytes] = []
        self.lost = 0
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen.append(scope)
        await self.go_on.wait()
        body, more = b"", scope["path"] != "/early"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.lost += 1
                return
            body += message["body"]
            more = message["more_body"]
        self.bodies.append(body)
        if scope["path"] == "/large":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(10_000):
                await send({"type": "http.response.body", "body": b"x" * 10_000, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
            return
        answer = scope["path"].encode() + b" " + str(len(body)).encode()
        headers = [(b"content-length", str(len(answer)).encode())] if scope["path"] != "/chunks" else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


@dataclass
class Peer:
    """A raw connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer: status, headers, body."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        return int(head[0].split()[1]), headers, await self.reader.readexactly(int(headers.get("content-length", 0)))

    async def problem(self) -> tuple[int, str]:
        """Status and reason of an answer that is an error, after which the connection ends."""
        status, headers, body = await self.answer()
        assert headers["content-type"] == "application/problem+json" and headers["connection"] == "close"
        assert await self.ended()
        return status, json.loads(body)["reason"]

    async def ended(self) -> bool:
        """Whether the server ends the connection, without another byte."""
        try:
            return await asyncio.wait_for(self.reader.read(), 20) == b""
        except ConnectionResetError:
            return True

    def send(self, data: bytes) -> None:
        self.writer.write(data)


Connect = Callable[[], Awaitable[Peer]]


@dataclass
class Served:
    server: HttpServer
    app: App
    connect: Connect


@asynccontextmanager
async def serving(proxies: str = "", drain: float = 1.0, **bounds: Any) -> AsyncIterator[Served]:
    app, stop = App(), asyncio.Event()
    server = HttpServer(app, "127.0.0.1", 0, drain=drain, door=Door(Bounds(**bounds), Proxies(proxies)))
    running = asyncio.create_task(server.run(stop))
    port = await server.port
    async with AsyncExitStack() as stack:

        async def connect() -> Peer:
            peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
            stack.callback(peer.writer.close)
            return peer

        yield Served(server, app, connect)
        stop.set()
        await running
    assert not server.door.guests and not server.door.tasks


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving(head_bytes=4096, head_seconds=30.0, body_seconds=30.0, body_bytes=100_000) as one:
        yield one


@pytest.fixture
async def impatient() -> AsyncIterator[Served]:
    """Too impatient for any test that is not about that."""
    async with serving(head_seconds=1.0, body_seconds=1.0) as one:
        yield one


async def test_requests_of_a_connection_are_answered_in_order(served: Served) -> None:
    peer = await served.connect()
    peer.send(b"GET /a HTTP/1.1\r\n\r\nPOST /b HTTP/1.1\r\ncontent-length: 3\r\n\r\nxyzGET /c%20d HTTP/1.1\r\n\r\n")
    assert [(await peer.answer())[2] for _ in range(3)] == [b"/a 0", b"/b 3", b"/c d 0"]
    peer.send(GET)
    assert (await peer.answer())[0] == 200


async def test_a_body_may_come_in_pieces_and_chunks(served: Served) -> None:
    peer = await served.connect()
    for piece in (
        b"POST / HTTP/1.1\r\ntransfer-enc",
        b"oding: chunked\r\n\r\n3\r\nab",
        b"c\r\n2\r\nde\r\n",
        b"0\r\n\r\n",
    ):
        peer.send(piece)
        await asyncio.sleep(0.02)
    assert (await peer.answer())[2] == b"/ 5"
    assert served.app.bodies == [b"abcde"]


async def test_an_answer_without_a_length_is_chunked_and_a_head_has_no_body(served: Served) -> None:
    peer = await served.connect()
    peer.send(b"GET /chunks HTTP/1.1\r\n\r\n")
    assert (await peer.answer())[1]["transfer-encoding"] == "chunked"
    assert await peer.reader.readuntil(b"0\r\n\r\n") == b"9\r\n/chunks 0\r\n0\r\n\r\n"
    peer.send(b"HEAD / HTTP/1.1\r\n\r\n" + b"GET /next HTTP/1.1\r\n\r\n")
    head = await peer.reader.readuntil(b"\r\n\r\n")
    assert b"content-length: 3" in head
    assert (await peer.answer())[2] == b"/next 0"


async def test_old_clients_get_their_answer_and_the_end(served: Served) -> None:
    asks = b"HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n"
    for head in (
        b"GET /chunks HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"POST / " + asks,
    ):
        peer = await served.connect()
        peer.send(head)
        answer = await asyncio.wait_for(peer.reader.read(), 5)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in answer and b"chunked" not in answer and answer.endswith(b" 0")


async def test_who_expects_to_be_told_to_continue_is_told(served: Served) -> None:
    peer = await served.connect()
    peer.send(b"POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert await peer.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    peer.send(b"hi")
    assert (await peer.answer())[2] == b"/ 2"


async def test_an_upgrade_is_answered_as_what_it_is_otherwise(served: Served) -> None:
    peer = await served.connect()
    upgrade = b" HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    peer.send(b"GET /a" + upgrade + b"\r\nPOST /b" + upgrade + b"Content-Length: 4\r\n\r\nhi")
    assert (await peer.answer())[2] == b"/a 0"
    peer.send(b"ho" + b"POST /c" + upgrade + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n" + GET)
    assert [(await peer.answer())[2] for _ in range(3)] == [b"/b 4", b"/c 2", b"/ 0"]


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nX: " + b"x" * 5000,  # a header that never ends
        b"GET / HTTP/1.1\r\nX: " + b"x" * 5000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 101 + b"\r\n",
        b"GET /" + b"x" * 5000,
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX: " + b"x" * 5000 + b"\r\n\r\n",
    ],
    ids=["endless header", "large header", "many headers", "long address", "large trailer"],
)
async def test_too_many_bytes_before_the_body_are_a_431(served: Served, head: bytes) -> None:
    peer = await served.connect()
    peer.send(head)
    assert await peer.problem() == (431, "HEADERS_TOO_LARGE")
    assert served.server.door.refused["headers_too_large"] == 1


async def test_headers_that_come_drop_by_drop_are_a_408(impatient: Served) -> None:
    peer = await impatient.connect()

    async def drip() -> None:
        for byte in b"GET / HTTP/1.1\r\nX-Slow: " + b"x" * 1000:
            peer.send(bytes([byte]))
            await asyncio.sleep(0.05)

    dripping = asyncio.create_task(drip())
    assert await peer.problem() == (408, "TOO_SLOW")
    dripping.cancel()
    assert not impatient.app.seen


async def test_a_connection_that_says_nothing_is_closed(impatient: Served) -> None:
    peer = await impatient.connect()
    assert await peer.ended()


async def test_a_body_that_comes_too_slowly_is_a_408_and_nobody_waits_for_it(impatient: Served) -> None:
    peer = await impatient.connect()
    peer.send(b"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\nxx")
    assert await peer.problem() == (408, "TOO_SLOW")
    assert (impatient.app.lost, impatient.app.bodies) == (1, [])


async def test_a_large_body_at_a_fair_pace_has_its_time() -> None:
    async with serving(body_seconds=0.5, body_bytes_per_second=100) as served:
        peer = await served.connect()
        peer.send(b"POST / HTTP/1.1\r\nContent-Length: 3000\r\n\r\n")
        for _ in range(6):  # 1.5 s in all
            peer.send(b"x" * 500)
            await asyncio.sleep(0.25)
        assert (await peer.answer())[2] == b"/ 3000"


async def test_what_is_no_http_is_a_400(served: Served) -> None:
    for nonsense in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET http://[ HTTP/1.1\r\n\r\n"):
        peer = await served.connect()
        peer.send(nonsense)
        assert await peer.problem() == (400, "INVALID_HTTP")


@pytest.mark.parametrize(
    "bad", [b"nonsense\r\n\r\n", b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"], ids=["head", "chunk"]
)
@pytest.mark.parametrize("at_once", [True, False], ids=["one packet", "two packets"])
async def test_what_is_wrong_behind_a_good_request_is_told_after_its_answer(
    served: Served, bad: bytes, at_once: bool
) -> None:
    served.app.go_on.clear()
    peer = await served.connect()
    if at_once:
        peer.send(b"GET /good HTTP/1.1\r\n\r\n" + bad)
    else:
        peer.send(b"GET /good HTTP/1.1\r\n\r\n")
        while not served.app.seen:
            await asyncio.sleep(0.01)
        peer.send(bad)
        while not served.server.door.refused:
            await asyncio.sleep(0.01)
    served.app.go_on.set()
    status, headers, body = await peer.answer()
    assert (status, body) == (200, b"/good 0")
    assert "connection" not in headers
    assert await peer.problem() == (400, "INVALID_HTTP")
    assert await peer.ended()
    assert [scope["path"] for scope in served.app.seen] == ["/good"]


async def test_who_goes_away_is_no_error(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    peer = await served.connect()
    peer.send(b"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\nxx")
    while not served.app.seen:
        await asyncio.sleep(0.01)
    peer.writer.close()
    while not served.app.lost:
        await asyncio.sleep(0.01)
    captured = capsys.readouterr()
    assert "failed" not in captured.out + captured.err


async def test_an_answer_reaches_who_is_still_sending(served: Served) -> None:
    """A connection that ends with bytes unread is reset, and the answer lost with it."""
    peer = await served.connect()
    peer.send(b"POST /early HTTP/1.1\r\nContent-Length: 5000000\r\n\r\n" + b"x" * 5_000_000)
    status, headers, _ = await peer.answer()
    assert (status, headers["connection"]) == (200, "close")
    assert await peer.ended()


async def test_the_body_is_not_read_ahead_of_the_application(served: Served) -> None:
    served.app.go_on.clear()
    peer = await served.connect()
    peer.send(b"POST / HTTP/1.1\r\nContent-Length: 20000000\r\n\r\n" + b"x" * 20_000_000)
    while not served.app.seen:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    (guest,) = served.server.door.guests
    assert guest._open[0].unread < 1_000_000  # type: ignore[attr-defined]
    peer.writer.transport.abort()
    served.app.go_on.set()


async def test_chunks_that_are_mostly_frame_are_counted_as_they_came(served: Served) -> None:
    peer = await served.connect()
    peer.send(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1;" + b"x" * 1_000_000 + b"\r\n")
    assert await peer.problem() == (413, "TOO_LARGE")


async def test_only_so_many_requests_wait_on_a_connection() -> None:
    async with serving(pipelined=3) as served:
        served.app.go_on.clear()
        peer = await served.connect()
        peer.send(b"".join(b"GET /%d HTTP/1.1\r\n\r\n" % number for number in range(1000)))
        while not served.app.seen:
            await asyncio.sleep(0.01)
        (guest,) = served.server.door.guests
        assert len(guest._open) <= 4  # type: ignore[attr-defined]
        served.app.go_on.set()
        for number in range(4):
            assert (await peer.answer())[2] == b"/%d 0" % number
        assert await peer.ended()


async def test_connections_of_one_address_are_bounded_unless_it_is_a_trusted_proxy() -> None:
    async with serving(connections_per_address=2) as served:
        kept = [await served.connect() for _ in range(2)]
        refused = await served.connect()
        status, headers, _ = await refused.answer()
        assert (status, headers["retry-after"]) == (503, "1")
        kept[0].writer.close()
        while len(served.server.door.guests) > 1:
            await asyncio.sleep(0.01)
        allowed = await served.connect()
        allowed.send(GET)
        assert (await allowed.answer())[0] == 200
    async with serving("127.0.0.0/8", connections_per_address=2) as served:
        for _ in range(5):
            peer = await served.connect()
            peer.send(GET)
            assert (await peer.answer())[0] == 200


async def test_a_new_connection_takes_the_place_of_the_one_idle_longest() -> None:
    async with serving(connections=2) as served:
        idle, idler = await served.connect(), await served.connect()
        for peer in (idler, idle):
            peer.send(GET)
            await peer.answer()
        newcomer = await served.connect()
        newcomer.send(GET)
        assert (await newcomer.answer())[0] == 200
        assert await idler.ended()
        idle.send(GET)
        assert (await idle.answer())[0] == 200


async def test_too_many_requests_at_once_are_a_503_that_says_when() -> None:
    async with serving(requests=1) as served:
        served.app.go_on.clear()
        first, second = await served.connect(), await served.connect()
        first.send(GET)
        while not served.app.seen:
            await asyncio.sleep(0.01)
        second.send(GET)
        status, headers, body = await second.answer()
        assert (status, headers["retry-after"], json.loads(body)["reason"]) == (503, "1", "OVERLOADED")
        served.app.go_on.set()
        assert (await first.answer())[0] == 200


async def test_idle_connections_are_closed() -> None:
    async with serving(idle_seconds=2.0) as served:
        peer = await served.connect()
        peer.send(GET)
        assert (await peer.answer())[0] == 200
        assert await peer.ended()


async def test_who_does_not_read_its_answer_is_let_go() -> None:
    async with serving(write_seconds=0.5) as served:
        peer = await served.connect()
        peer.send(b"GET /large HTTP/1.1\r\n\r\n")
        while served.server.door.guests or not served.app.seen:
            await asyncio.sleep(0.05)
        assert served.server.door.refused["slow_readers"] == 1


async def test_what_is_under_way_is_answered_before_the_end() -> None:
    async with serving(drain=10.0) as served:
        served.app.go_on.clear()
        idle, busy = await served.connect(), await served.connect()
        idle.send(GET)
        busy.send(GET)
        while len(served.app.seen) < 2:
            await asyncio.sleep(0.01)
        asyncio.get_running_loop().call_later(0.3, served.app.go_on.set)
        closing = asyncio.create_task(busy.answer())
    assert (await closing)[:1] == (200,)


@pytest.mark.parametrize(
    ("proxies", "forwarded", "client"),
    [
        ("", b"203.0.113.9", "127.0.0.1"),
        ("127.0.0.1", b"203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", b"198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("127.0.0.1, 10.0.0.0/8", b"203.0.113.9, 10.1.2.3", "203.0.113.9"),
        ("127.0.0.1", b"nonsense", "127.0.0.1"),
        ("127.0.0.1", b"[2001:db8::1]:4711", "2001:db8::1"),
        ("127.0.0.1", b"192.0.2.1:80", "192.0.2.1"),
    ],
)
async def test_only_a_trusted_proxy_says_who_calls(proxies: str, forwarded: bytes, client: str) -> None:
    async with serving(proxies) as served:
        peer = await served.connect()
        peer.send(b"GET / HTTP/1.1\r\nX-Forwarded-For: " + forwarded + b"\r\n\r\n")
        await peer.answer()
        assert served.app.seen[0]["client"][0] == client


SERVER = """
import asyncio, sys
from services.edge.server.http import HttpServer

async def app(scope, receive, send):
    await asyncio.sleep(30 if scope["path"] == "/slow" else 0)

async def main():
    server = HttpServer(app, "127.0.0.1", 0, drain=0)
    running = asyncio.create_task(server.run(asyncio.Event()))
    print(await server.port, flush=True)
    await running

asyncio.run(main())
"""


async def test_a_crowd_of_bad_connections_takes_little_memory() -> None:
    """Six such connections held 340 MB once. Here 400 send as much of each kind of nonsense as they can."""
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVER, stdout=asyncio.subprocess.PIPE, env=environment
    )
    kinds = (
        b"GET / HTTP/1.1\r\nX: ",  # a header without end
        b"POST /slow HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n",  # a body that nobody reads yet
        b"POST /slow HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;",  # a chunk's frame without end
        b"GET /slow HTTP/1.1\r\n\r\n" * 2000,  # more requests than are answered
    )

    async def flood(start: bytes) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(OSError, TimeoutError):
            writer.write(start)
            async with asyncio.timeout(3):
                while True:
                    writer.write(b"x" * 65_536)
                    await writer.drain()
        writer.transport.abort()

    try:
        assert process.stdout is not None
        port = 0
        while not port:
            line = (await process.stdout.readline()).strip()
            port = int(line) if line.isdigit() else 0
        measured = psutil.Process(process.pid)
        before = measured.memory_info().rss
        floods = asyncio.gather(*(flood(kinds[number % len(kinds)]) for number in range(400)))
        most = 0
        while not floods.done():
            most = max(most, measured.memory_info().rss)
            await asyncio.sleep(0.1)
        await floods
        assert most - before < 60_000_000
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"nonsense\r\n\r\n")
        assert (await reader.readline()).split()[1] == b"400"
        writer.close()
    finally:
        process.kill()
        await process.wait()
