"""The HTTP client against servers that do what servers do."""

import asyncio

import pytest
from aiohttp.client_proto import ResponseHandler

from services.delivery.providers.connections import MAX_BODY, Connector
from services.delivery.providers.exchanges import Answer, File, NoAnswer, NotSent, Request, form, target
from services.delivery.providers.http import HttpClient
from services.runtime.egress import Egress
from tests.integration.delivery.http_server import CONTINUE, LOCAL, OK, Server, post, serving


def idle(client: HttpClient) -> list[ResponseHandler]:
    """Connections that are kept for the next call."""
    found = [session.connector for session in client._sessions.values()]
    return [kept for one in found if one is not None for waiting in one._conns.values() for kept, _ in waiting]


async def test_one_connection_serves_calls_that_follow_one_another() -> None:
    server = Server()
    async with serving(server) as client:
        for _ in range(5):
            assert await post(client, server.target()) == Answer(200, {"content-length": "2"}, b"ok")
        assert server.connections == 1
        host = server.url.removeprefix("http://")
        head, _, body = server.requests[0].decode().partition("\r\n\r\n")
        line, *headers = head.split("\r\n")
        assert (line, body) == ("POST /v1/messages HTTP/1.1", "{}")
        assert sorted(headers) == ["Authorization: token", "Content-Length: 2", f"Host: {host}"]


async def test_calls_at_the_same_time_have_connections_of_their_own() -> None:
    server = Server()
    async with serving(server) as client:
        await asyncio.gather(*[post(client, server.target()) for _ in range(4)])
        await asyncio.gather(*[post(client, server.target()) for _ in range(4)])
        assert server.connections == 4


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n|3\r\ncde\r\n0\r\n\r\n", 200, b"abcde"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\na|b|c|d|e", 200, b"abcde"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end", 200, b"to the end"),
        (b"HTTP/1.0 500 Oops\r\nX: close\r\n\r\nto the end", 500, b"to the end"),
        (b"HTTP/1.1 100 Continue\r\n\r\n|" + OK, 200, b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere\r\nContent-Length: 0\r\n\r\n", 302, b""),
        (b"HTTP/1.1 429 Slow\r\nRETRY-AFTER: 7\r\nContent-Length: 0\r\n\r\n", 429, b""),
    ],
)
async def test_answers_of_all_shapes_are_read(answer: bytes, status: int, body: bytes) -> None:
    server = Server(answer)
    async with serving(server) as client:
        result = await post(client, server.target())
        assert isinstance(result, Answer)
        assert (result.status, result.body) == (status, body)
        assert status != 429 or result.headers["retry-after"] == "7"
        assert isinstance(await post(client, server.target()), Answer)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\nX: close\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: close\r\n\r\n5\r\nab",
        b"HTTP/1.1 200",
        b"SMTP is spoken here\r\n\r\n",
    ],
)
async def test_a_request_that_left_without_a_whole_answer_is_told_apart(answer: bytes) -> None:
    server = Server(answer)
    async with serving(server, timeout=3.0) as client:
        assert isinstance(await post(client, server.target()), NoAnswer)
        assert len(server.requests) == 1, "it is not asked again"
        assert isinstance(await post(client, server.target()), Answer), "the next call has another connection"


async def test_a_call_without_an_answer_ends_in_time() -> None:
    server = Server(lambda: None)
    async with serving(server, timeout=2.0) as client:
        began = asyncio.get_running_loop().time()
        assert await post(client, server.target()) == NoAnswer("no answer within 2 s")
        assert 2.0 <= asyncio.get_running_loop().time() - began < 30.0


async def test_no_connection_means_that_nothing_left() -> None:
    client = HttpClient(LOCAL, timeout=30.0)
    result = await post(client, "http://127.0.0.1:9/")
    assert isinstance(result, NotSent)
    assert "127" not in result.error
    assert isinstance(await post(client, "http://no-such-host.invalid/"), NotSent)
    await client.close()


async def test_a_place_that_does_not_come_free_in_time_means_that_nothing_left() -> None:
    server = Server(lambda: None)
    async with serving(server):
        narrow = HttpClient(LOCAL, timeout=2.0, connections=1)
        first, second = await asyncio.gather(post(narrow, server.target()), post(narrow, server.target()))
        assert isinstance(first, NoAnswer)
        assert second == NotSent("no connection in time")
        await narrow.close()


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used() -> None:
    server = Server(OK.replace(b"\r\n\r\n", b"\r\nX: close\r\n\r\n"))
    async with serving(server) as client:
        assert isinstance(await post(client, server.target()), Answer)
        async with asyncio.timeout(30):
            while any(connection.is_connected() for connection in idle(client)):
                await asyncio.sleep(0.005)
        assert isinstance(await post(client, server.target()), Answer)
        assert server.connections == 2


async def test_an_endless_answer_is_cut_off() -> None:
    server = Server(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + b"x" * (MAX_BODY + 100_000))
    async with serving(server) as client:
        result = await post(client, server.target())
        assert isinstance(result, Answer)
        assert len(result.body) <= MAX_BODY


@pytest.mark.parametrize(
    "endless",
    [b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000, b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000, CONTINUE * 10_000],
)
async def test_what_comes_around_an_answer_is_bounded(endless: bytes) -> None:
    server = Server(endless)
    async with serving(server) as client:
        assert await post(client, server.target()) == NoAnswer("an endless answer")


async def test_a_server_without_a_trusted_certificate_gets_nothing() -> None:
    server = Server()
    async with serving(server, timeout=4.0) as client:
        result = await post(client, server.url.replace("http://", "https://"))
        assert isinstance(result, NotSent)
        assert not server.requests


@pytest.mark.parametrize("url", ["ftp://host/", "http://", "http://host:99999/", "nonsense"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"address|[Pp]ort"):
        target(url)


@pytest.mark.parametrize(
    ("url", "authority", "port", "path"),
    [
        ("https://api.chat2desk.com/v1/messages", "api.chat2desk.com", 443, "/v1/messages"),
        ("http://[::1]:8090/a?b=c", "[::1]:8090", 8090, "/a?b=c"),
        ("http://пример.рф", "xn--e1afmkfd.xn--p1ai", 80, "/"),
    ],
)
def test_addresses_are_taken_apart(url: str, authority: str, port: int, path: str) -> None:
    found = target(url)
    assert (found.raw_authority, found.port, found.raw_path_qs) == (authority, port, path)


async def test_no_header_can_carry_another() -> None:
    result = await HttpClient(LOCAL).call(Request("http://127.0.0.1:9/", {"A": "b\r\nC: d"}, b""))
    assert isinstance(result, NotSent)
    assert result.wrong_address
    assert "line break" in result.error


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/\u043f\u0443\u0442\u044c",
        "http://bad..name/",
        f"http://{'x' * 64}.example/",
        "https://.example/",
        "http://127.0.0.1:99999/",
        "http://127.1:9/",
    ],
)
async def test_what_can_never_be_called_is_not_sent_and_says_so(url: str) -> None:
    client = HttpClient(LOCAL, timeout=30.0)
    result = await client.call(Request(url, {}, b""))
    assert isinstance(result, NotSent)
    assert result.wrong_address
    await client.close()


async def test_an_address_that_is_not_public_is_not_connected_to() -> None:
    server = Server()
    async with serving(server):
        closed = HttpClient(Egress(), timeout=30.0)
        for host in ("127.0.0.1", "localhost"):
            result = await post(closed, server.url.replace("127.0.0.1", host))
            assert result == NotSent("the address leads to an address that is not public", wrong_address=True)
        assert server.connections == 0
        await closed.close()


async def test_the_connection_goes_to_the_address_that_was_judged() -> None:
    """A name that resolves to something else the second time gains nothing: it is resolved once."""
    server = Server()
    async with serving(server):
        port = target(server.url).port
        asked: list[str] = []

        class Rebinding(Egress):
            async def resolve(self, host: str, port: int, *, tls: bool) -> list[str]:
                asked.append(host)
                return ["127.0.0.1"]

        rebound = HttpClient(Rebinding(), timeout=30.0)
        result = await post(rebound, f"http://no-such-host.invalid:{port}/")
        assert isinstance(result, Answer), "the name itself leads nowhere"
        assert b"Host: no-such-host.invalid" in server.requests[0]
        assert asked == ["no-such-host.invalid"]
        await rebound.close()


async def test_an_address_that_does_not_answer_gives_way_to_the_next() -> None:
    server = Server()
    async with serving(server):
        port = target(server.url).port

        class Two(Egress):
            async def resolve(self, host: str, port: int, *, tls: bool) -> list[str]:
                return ["::1", "127.0.0.1"]  # the server listens on the second one only

        client = HttpClient(Two(), timeout=30.0)
        assert isinstance(await post(client, f"http://two.invalid:{port}/"), Answer)
        await client.close()


async def test_hosts_that_nobody_calls_any_more_are_forgotten() -> None:
    server = Server()
    async with serving(server) as client:
        for number in range(10):
            await post(client, server.target())
            await post(client, f"http://127.0.0.{number + 1}:9/")
        [session] = client._sessions.values()
        assert isinstance(session.connector, Connector)
        assert len(session.connector._conns) == 1, "only the host that a connection leads to"
        assert not session.connector._acquired_per_host


async def test_a_get_has_no_body_and_a_query() -> None:
    server = Server(OK)
    async with serving(server) as client:
        url = server.target("/v1/media/7?fields=url%20id")
        assert isinstance(await client.call(Request(url, {"Authorization": "token"}, method="GET")), Answer)
        assert server.requests[0].startswith(b"GET /v1/media/7?fields=url%20id HTTP/1.1\r\n")
        assert server.requests[0].endswith(b"\r\n\r\n")


async def test_a_get_is_asked_again_where_a_kept_connection_was_closed_and_a_post_never() -> None:
    server = Server(OK, b"", OK, OK, b"", OK)
    async with serving(server) as client:
        for method, asked, answered in (("GET", 3, True), ("POST", 5, False)):
            asking = Request(server.target(), {}, method=method)
            assert isinstance(await client.call(asking), Answer)
            result = await client.call(asking)
            assert isinstance(result, Answer) == answered
            assert len(server.requests) == asked
            assert isinstance(result, Answer | NoAnswer)


async def test_files_go_up_as_a_multipart_form() -> None:
    server = Server()
    async with serving(server) as client:
        uploaded = form(
            {"chat_id": "77", "caption": "Счёт"}, [File("document", "счёт.pdf", "application/pdf", b"%PDF")]
        )
        assert isinstance(await client.call(Request(server.target(), {}, uploaded)), Answer)
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert b"Content-Type: multipart/form-data; boundary=" in head
    for piece in (b'name="chat_id"\r\n\r\n77', "Счёт".encode(), b"Content-Type: application/pdf", b"%PDF"):
        assert piece in body


async def test_a_call_may_have_a_time_of_its_own() -> None:
    server = Server(lambda: None)
    async with serving(server, timeout=600.0) as client:
        result = await client.call(Request(server.target(), {}, b"", timeout=3.0))
        assert result == NoAnswer("no answer within 3 s")


async def test_an_answer_that_trickles_in_ends_in_time() -> None:
    """Each piece comes soon after the one before it, so only a bound on the whole call ends it."""
    server = Server(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x|" * 5000)
    async with serving(server, timeout=4.0) as client:
        assert await post(client, server.target()) == NoAnswer("no answer within 4 s")
