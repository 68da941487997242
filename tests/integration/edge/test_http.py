"""HTTP/1.1 as the edge's server speaks it: order, framing, upgrades, and the end of connections."""

import asyncio

import pytest

from tests.integration.edge.serving import GET, Served, serving


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
        while not served.server.admission.refused:
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
