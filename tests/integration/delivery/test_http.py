"""The HTTP client against servers that do what servers do."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from services.delivery.providers.http import HttpClient, NoAnswer, NotSent
from services.delivery.providers.wire import MAX_ANSWER, Answer, Target
from services.runtime.egress import Egress

LOCAL = Egress.of("loopback")

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Server:
    """Answers each request (read to its end) with the next of its answers; an empty one closes the connection."""

    def __init__(self, *answers: bytes | Callable[[], object]) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self.connections = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                answer = self.answers.pop(0) if self.answers else OK
                if callable(answer):
                    await asyncio.sleep(60)
                    return
                for piece in answer.split(b"|"):
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.01)
                if not answer or b"close" in answer:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def target(self, path: str = "/v1/messages") -> Target:
        return Target.of(self.url + path)


@asynccontextmanager
async def serving(server: Server, *, timeout: float = 30.0) -> AsyncIterator[HttpClient]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    client = HttpClient(LOCAL, timeout=timeout)
    try:
        yield client
    finally:
        await client.close()
        listening.close()


async def post(client: HttpClient, target: Target, body: bytes = b"{}") -> Answer | NotSent | NoAnswer:
    return await client.post(target, headers={"Authorization": "token"}, body=body)


async def test_one_connection_serves_calls_that_follow_one_another() -> None:
    server = Server()
    async with serving(server) as client:
        for _ in range(5):
            assert await post(client, server.target()) == Answer(200, {"content-length": "2"}, b"ok")
        assert server.connections == 1
        host = server.url.removeprefix("http://")
        assert (
            server.requests[0]
            == (
                f"POST /v1/messages HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\nAuthorization: token\r\n\r\n{{}}"
            ).encode()
        )


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
    result = await post(client, Target.of("http://127.0.0.1:9/"))
    assert isinstance(result, NotSent)
    assert "127" not in result.error
    assert isinstance(await post(client, Target.of("http://no-such-host.invalid/")), NotSent)


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
        [origin] = client._origins.values()
        async with asyncio.timeout(30):
            while any(wire.usable for wire in origin.idle):
                await asyncio.sleep(0.005)
        assert isinstance(await post(client, server.target()), Answer)
        assert server.connections == 2


async def test_an_endless_answer_is_cut_off() -> None:
    server = Server(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + b"x" * (MAX_ANSWER + 100_000))
    async with serving(server) as client:
        result = await post(client, server.target())
        assert isinstance(result, Answer)
        assert len(result.body) <= MAX_ANSWER


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
        result = await post(client, Target.of(server.url.replace("http://", "https://")))
        assert isinstance(result, NotSent)
        assert not server.requests


@pytest.mark.parametrize("url", ["ftp://host/", "http://", "http://host:99999/", "nonsense"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"address|[Pp]ort"):
        Target.of(url)


@pytest.mark.parametrize(
    ("url", "authority", "port", "path"),
    [
        ("https://api.chat2desk.com/v1/messages", "api.chat2desk.com", 443, "/v1/messages"),
        ("http://[::1]:8090/a?b=c", "[::1]:8090", 8090, "/a?b=c"),
        ("http://пример.рф", "xn--e1afmkfd.xn--p1ai", 80, "/"),
    ],
)
def test_addresses_are_taken_apart(url: str, authority: str, port: int, path: str) -> None:
    target = Target.of(url)
    assert (target.authority, target.port, target.path) == (authority, port, path)


async def test_no_header_can_carry_another() -> None:
    target = Target.of("http://127.0.0.1:9/")
    result = await HttpClient(LOCAL).post(target, headers={"A": "b\r\nC: d"}, body=b"")
    assert isinstance(result, NotSent)
    assert result.wrong_address
    assert "line break" in result.error


@pytest.mark.parametrize(
    "target",
    [
        Target("127.0.0.1", 9, False, "/\u043f\u0443\u0442\u044c", "127.0.0.1"),
        Target("bad..name", 80, False, "/", "bad..name"),
        Target("x" * 64 + ".example", 80, False, "/", "x"),
        Target(".example", 443, True, "/", ".example"),
        Target("127.0.0.1", 99_999, False, "/", "127.0.0.1"),
    ],
)
async def test_what_can_never_be_called_is_not_sent_and_says_so(target: Target) -> None:
    result = await HttpClient(LOCAL, timeout=30.0).post(target, headers={}, body=b"")
    assert isinstance(result, NotSent)
    assert result.wrong_address


async def test_an_address_that_is_not_public_is_not_connected_to() -> None:
    server = Server()
    async with serving(server):
        closed = HttpClient(Egress(), timeout=30.0)
        for host in ("127.0.0.1", "localhost"):
            target = Target.of(server.url.replace("127.0.0.1", host))
            result = await post(closed, target)
            assert result == NotSent("the address leads to an address that is not public", wrong_address=True)
        assert server.connections == 0


async def test_the_connection_goes_to_the_address_that_was_judged() -> None:
    """A name that resolves to something else the second time gains nothing: it is resolved once."""
    server = Server()
    async with serving(server):
        port = Target.of(server.url).port
        asked: list[str] = []

        class Rebinding(Egress):
            async def resolve(self, host: str, port: int, *, tls: bool) -> list[str]:
                asked.append(host)
                return ["127.0.0.1"]

        rebound = HttpClient(Rebinding(), timeout=30.0)
        result = await post(rebound, Target.of(f"http://no-such-host.invalid:{port}/"))
        assert isinstance(result, Answer), "the name itself leads nowhere"
        assert b"Host: no-such-host.invalid" in server.requests[0]
        assert asked == ["no-such-host.invalid"]
        await rebound.close()


async def test_an_address_that_does_not_answer_gives_way_to_the_next() -> None:
    server = Server()
    async with serving(server):
        port = Target.of(server.url).port

        class Two(Egress):
            async def resolve(self, host: str, port: int, *, tls: bool) -> list[str]:
                return ["::1", "127.0.0.1"]  # the server listens on the second one only

        client = HttpClient(Two(), timeout=30.0)
        assert isinstance(await post(client, Target.of(f"http://two.invalid:{port}/")), Answer)
        await client.close()


async def test_hosts_that_nobody_calls_any_more_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.delivery.providers.http.ORIGINS", 3)
    client = HttpClient(Egress(), timeout=30.0)
    for number in range(10):
        await post(client, Target.of(f"http://127.0.0.{number + 1}/"))
    assert len(client._origins) <= 3
