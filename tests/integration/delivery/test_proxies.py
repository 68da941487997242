"""Calls through a proxy, of the call's own or of the environment, are judged like any others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address

import pytest

from services.delivery.providers.exchanges import Answer, NotSent, Request
from services.delivery.providers.http import HttpClient
from services.runtime.egress import Egress
from tests.integration.delivery.http_server import LOCAL, OK, Server, post, serving


class Proxy:
    """Takes `CONNECT` and answers 403, or forwards what is asked in the absolute form by answering it itself."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.heads: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            self.lines.append(head.partition(b"\r\n")[0])
            tunnel = head.startswith(b"CONNECT")
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n" if tunnel else OK)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def proxying() -> AsyncIterator[tuple[Proxy, str]]:
    proxy = Proxy()
    listening = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    try:
        yield proxy, f"http://user:secret@127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()


async def test_a_call_goes_through_the_proxy_that_it_names() -> None:
    async with proxying() as (proxy, address):
        client = HttpClient(LOCAL, timeout=30.0)
        asking = Request("https://api.example/v1/messages", {"Authorization": "token"}, b"{}", proxy=address)
        result = await client.call(asking)
        assert result == NotSent("the proxy answered 403"), "a tunnel that does not stand has taken nothing"
        assert proxy.lines == [b"CONNECT api.example:443 HTTP/1.1"]
        assert b"Proxy-Authorization: Basic" in proxy.heads[0]
        assert b"token" not in proxy.heads[0]
        await client.close()


@pytest.mark.parametrize("proxy", ["http://10.0.0.1:3128", "http://localhost:3128", "http://[::1]:3128"])
async def test_a_proxy_that_a_call_names_is_judged_like_any_address(proxy: str) -> None:
    client = HttpClient(Egress(), timeout=30.0)
    result = await client.call(Request("https://api.example/", {}, method="GET", proxy=proxy))
    assert result == NotSent("the address leads to an address that is not public", wrong_address=True)
    await client.close()


@pytest.mark.parametrize("proxy", ["socks5://proxy.example:1080", "nonsense://", "http://:80"])
async def test_what_is_no_proxy_is_refused(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    result = await HttpClient(LOCAL).call(Request("https://api.example/", {}, method="GET", proxy=proxy))
    assert isinstance(result, NotSent)
    assert result.wrong_address
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(ValueError, match="HTTPS_PROXY"):
        HttpClient(LOCAL)


async def test_calls_go_through_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    async with serving(server), proxying() as (proxy, address):
        monkeypatch.setenv("HTTPS_PROXY", address)
        monkeypatch.setenv("HTTP_PROXY", address)
        monkeypatch.setenv("NO_PROXY", "direct.invalid")
        client = HttpClient(LOCAL, timeout=30.0)
        assert isinstance(await post(client, "https://proxied.invalid/"), NotSent)
        assert proxy.lines == [b"CONNECT proxied.invalid:443 HTTP/1.1"]
        assert isinstance(await post(client, "https://direct.invalid/"), NotSent)
        assert isinstance(await post(client, server.target()), Answer), "this machine is reached directly"
        assert len(proxy.lines) == 1
        await client.close()


@pytest.mark.parametrize("url", ["https://10.0.0.1/", "https://localhost.localdomain/", "http://8.8.8.8/"])
async def test_a_proxy_of_the_environment_opens_nothing_that_is_closed(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolved(self: Egress, host: str, port: int, *, tls: bool) -> list[str]:
        return self._judge([ip_address("10.0.0.1")], tls=tls)

    monkeypatch.setattr(Egress, "resolve", resolved)
    async with proxying() as (proxy, address):
        monkeypatch.setenv("HTTPS_PROXY", address)
        monkeypatch.setenv("HTTP_PROXY", address)
        client = HttpClient(Egress(), timeout=30.0)
        result = await post(client, url)
        assert isinstance(result, NotSent)
        assert result.wrong_address
        assert proxy.lines == []
        await client.close()
