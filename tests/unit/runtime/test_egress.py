"""Where a tenant's word may lead: public addresses over https, and what a setting allows."""

import asyncio
import socket
from typing import Any

import pytest

from services.runtime.egress import Egress, Refused

CLOSED, LOCAL = Egress(), Egress.of("loopback, 10.1.0.0/16")

INWARD = [
    "127.0.0.1",
    "127.9.9.9",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "192.0.0.192",
    "198.18.0.1",
    "168.63.129.16",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2001:0:1::1",
    "2001:db8::1",
    "fe80::1",
    "fec0::1",
    "fd00:ec2::254",
    "ff02::1",
]


def url_of(address: str, scheme: str = "https") -> str:
    return f"{scheme}://[{address}]/x" if ":" in address else f"{scheme}://{address}/x"


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Every name resolves to these."""

    async def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        return [(0, socket.SOCK_STREAM, 6, "", (address, 443)) for address in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo, raising=False)


@pytest.mark.parametrize("address", INWARD)
async def test_what_is_not_public_is_refused_by_number_and_by_name(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Refused, match="not public"):
        CLOSED.check(url_of(address))
    resolving(monkeypatch, address)
    with pytest.raises(Refused, match="not public"):
        await CLOSED.resolve("harmless.example", 443, tls=True)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111"])
async def test_public_addresses_are_reached_over_https_only(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    CLOSED.check(url_of(address))
    resolving(monkeypatch, address)
    assert await CLOSED.resolve("api.example", 443, tls=True) == [address]
    for policy in (CLOSED, LOCAL):
        with pytest.raises(Refused, match="https"):
            policy.check(url_of(address, "http"))
        with pytest.raises(Refused, match="https"):
            await policy.resolve("api.example", 80, tls=False)


async def test_of_several_addresses_only_the_good_ones_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, "127.0.0.1", "8.8.8.8", "::1", "8.8.8.8")
    assert await CLOSED.resolve("api.example", 443, tls=True) == ["8.8.8.8"]
    assert await LOCAL.resolve("api.example", 80, tls=False) == ["127.0.0.1", "::1"]


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1"])
async def test_other_spellings_of_an_address_are_seen_through(host: str) -> None:
    with pytest.raises((Refused, OSError)):
        await CLOSED.resolve(host, 443, tls=True)


def test_the_setting_allows_networks_over_http_too() -> None:
    LOCAL.check("http://127.0.0.1:8090/chat2desk")
    LOCAL.check("http://[::1]:8090/chat2desk")
    LOCAL.check("http://10.1.2.3")
    LOCAL.check("http://localhost:8090/chat2desk")
    for address in ("10.2.0.1", "169.254.169.254", "192.168.0.1"):
        with pytest.raises(Refused):
            LOCAL.check(url_of(address, "http"))
    Egress.of("private").check("http://192.168.0.1")


@pytest.mark.parametrize("setting", ["everything", "10.0.0.1/8", "loopback;private"])
def test_a_setting_that_means_nothing_is_an_error(setting: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Egress.of(setting)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://api.example", "https"),
        ("ftp://api.example", "no https address"),
        ("https://", "no https address"),
        ("https:///path", "no https address"),
        ("https://user@api.example", "user name"),
        ("https://user:word@api.example", "user name"),
        ("https://@api.example", "user name"),
        ("https://api.example/?to=x", "query"),
        ("https://api.example?", "query"),
        ("https://api.example/#x", "fragment"),
        ("https://api.example:99999", "no address"),
        ("https://api.example:x", "no address"),
        ("https://api.example:0", "port 0"),
        ("https://[::1", "no address"),
        ("https://api\x00.example", "characters"),
        ("https://api.example/\r\nX:y", "characters"),
        ("https://api.example\\@127.0.0.1", "characters"),
        ("https://пример.рф", "characters"),
        ("https://api..example", "host name"),
        ("https://" + "x" * 64 + ".example", "host name"),
    ],
)
def test_what_is_no_plain_base_address_is_refused(url: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        CLOSED.check(url)


def test_plain_base_addresses_are_taken() -> None:
    for url in ("https://api.example", "https://api.example:8443/a/b%20c", "https://api.example./x"):
        CLOSED.check(url)
