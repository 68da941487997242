"""Callers of the edge's server who send too much, too slowly or too often are told so, and let go."""

import asyncio
import json
import os
import sys
from contextlib import suppress

import psutil
import pytest

from tests.integration.edge.serving import GET, Served, serving


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
    assert served.server.admission.refused["headers_too_large"] == 1


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


async def test_the_body_is_not_read_ahead_of_the_application(served: Served) -> None:
    served.app.go_on.clear()
    peer = await served.connect()
    peer.send(b"POST / HTTP/1.1\r\nContent-Length: 20000000\r\n\r\n" + b"x" * 20_000_000)
    while not served.app.seen:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    (connection,) = served.server.admission.connections
    assert connection._open[0].unread < 1_000_000  # type: ignore[attr-defined]
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
        (connection,) = served.server.admission.connections
        assert len(connection._open) <= 4  # type: ignore[attr-defined]
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
        while len(served.server.admission.connections) > 1:
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
        while served.server.admission.connections or not served.app.seen:
            await asyncio.sleep(0.05)
        assert served.server.admission.refused["slow_readers"] == 1


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
