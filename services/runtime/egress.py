"""Where this process may connect on a tenant's word: public addresses over https, and networks that a setting allows.

A name says nothing of the address behind it, so addresses are judged after resolution, and the connection goes to the
address that was judged: a name that changes its mind in between gains nothing.
"""

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NAMED = {
    "loopback": ("127.0.0.0/8", "::1/128"),
    "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
}
_UNICAST = IPv6Network("2000::/3")
"""All public IPv6 addresses. Outside of it are those that wrap IPv4 addresses: mapped, compatible and NAT64."""
_NOT_PUBLIC = tuple(
    ip_network(network)
    for network in (
        # IANA's registries of special purpose, spelled out as Python's own lists differ between its versions.
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
        # Public by its number, but a cloud's own service for its machines.
        "168.63.129.16/32",
    )
)


class Refused(ValueError):
    """The policy does not allow it; the message says why, in words that follow the name of a field."""


@dataclass(frozen=True, slots=True)
class Egress:
    """The policy. `allowed` are networks that may be reached although they are not public, and over plain http too."""

    allowed: tuple[Network, ...] = ()

    @staticmethod
    def of(setting: str) -> "Egress":
        """From `loopback`, `private` and networks such as `10.1.0.0/16`, with commas between. Raises ValueError."""
        words = [word.strip() for word in setting.split(",")]
        networks = [network for word in words if word for network in _NAMED.get(word, (word,))]
        return Egress(tuple(ip_network(network) for network in networks))

    def check(self, url: str) -> None:
        """Raises Refused for a base address that can never be called; what its name resolves to is judged later."""
        parts = _split(url)
        if parts.scheme == "http" and not self.allowed:
            raise Refused("must begin with https://")
        self.permit(parts.hostname or "", tls=parts.scheme == "https")

    def permit(self, host: str, *, tls: bool) -> None:
        """Raises Refused for an address that may not be connected to. Names pass: `resolve` judges them."""
        address = _literal(host)
        if address is not None:
            self._judge([address], tls=tls)

    async def resolve(self, host: str, port: int, *, tls: bool) -> Sequence[str]:
        """Returns the addresses of a host that may be connected to.

        Raises Refused when there are none, OSError when the name is unknown, and ValueError when it is no name.
        """
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return self._judge([ip_address(entry[4][0]) for entry in found], tls=tls)

    def _judge(self, addresses: Sequence[Address], *, tls: bool) -> list[str]:
        """Those that may be connected to."""
        good = [address for address in addresses if self._is_allowed(address) or (tls and is_public(address))]
        if good:
            return [str(address) for address in dict.fromkeys(good)]
        if any(is_public(address) for address in addresses):
            raise Refused("must begin with https://")
        raise Refused("leads to an address that is not public")

    def _is_allowed(self, address: Address) -> bool:
        return any(address in network for network in self.allowed)


def is_public(address: Address) -> bool:
    """Whether anybody on the internet can reach it: no loopback, private, link-local, multicast, reserved or wrapped
    address.
    """
    if isinstance(address, IPv6Address) and address not in _UNICAST:
        return False
    return not any(address in network for network in _NOT_PUBLIC)


def _split(url: str) -> SplitResult:
    """Raises Refused for what is no plain base address."""
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise Refused("has characters that no address has; write other letters as %XX, and names as xn--")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Refused("is no address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Refused("is no https address")
    if parts.username is not None or parts.password is not None:
        raise Refused("must not hold a user name or password")
    if "?" in url or "#" in url:
        raise Refused("must have neither a query nor a fragment")
    if port == 0:
        raise Refused("has the port 0")
    labels = parts.hostname.rstrip(".").split(".")
    if _literal(parts.hostname) is None and not all(0 < len(label) < 64 for label in labels):
        raise Refused("has a host name that cannot be")
    return parts


@lru_cache(maxsize=1000)
def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
