"""Addresses of callers: those of their connections, or what a trusted proxy says."""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address


class Proxies:
    """Proxies whose `X-Forwarded-For` is believed, such as `10.0.0.0/8, 192.0.2.7`. Raises ValueError."""

    def __init__(self, text: str) -> None:
        self._networks = tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())

    def trust(self, address: str) -> bool:
        if not self._networks:
            return False
        parsed = parse(address)
        return parsed is not None and any(parsed in network for network in self._networks)

    def client(self, peer: str, forwarded: Iterable[bytes]) -> str:
        """The last address in the header that is no proxy of ours. What stands left of it could be forged."""
        nearest = peer
        if self.trust(peer):
            hops = b",".join(forwarded).decode("latin-1").split(",")
            for hop in reversed(hops):
                parsed = parse(without_port(hop.strip()))
                if parsed is None:
                    break
                nearest = str(parsed)
                if not self.trust(nearest):
                    break
        return nearest


def parse(text: str) -> Address | None:
    """Parses an address; one of IPv4 inside IPv6 becomes IPv4. None when the text is no address."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def without_port(text: str) -> str:
    """`192.0.2.7` of `192.0.2.7:4711`, `2001:db8::1` of `[2001:db8::1]:4711`."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


@lru_cache(maxsize=4096)
def network_of(address: str) -> str:
    """What a limit counts as one caller: an IPv4 address, or the /64 of one of IPv6."""
    parsed = parse(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed, 64), strict=False))
    return str(parsed or address)
