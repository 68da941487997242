"""How much anybody may send, and how long it may take."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bounds:
    """Bytes and seconds. What goes beyond is answered where that is possible, and the connection closed."""

    connections: int = 2000
    connections_per_address: int = 1000
    """Of one IPv4 address or one /64 of IPv6; trusted proxies are not counted."""
    requests: int = 1000
    """Requests that are being answered at once."""
    pipelined: int = 8
    """Requests of one connection that wait for the answer to an earlier one."""
    head_bytes: int = 16_384
    headers: int = 100
    head_seconds: float = 10.0
    """From the first byte, or from the connection's start, to the end of the headers."""
    idle_seconds: float = 75.0
    """Between two requests of a connection."""
    body_seconds: float = 10.0
    """For a whole body, and one second more for each `body_bytes_per_second` that came."""
    body_bytes_per_second: int = 20_000
    body_bytes: int = 1_000_000
    """Largest body that the application reads; chunks and trailers may take eight times as much on the wire."""
    unread_bytes: int = 65_536
    """What is taken from the network ahead of the application."""
    write_seconds: float = 30.0
    """For a caller who does not take its answer."""
    linger_seconds: float = 5.0
    linger_bytes: int = 32_000_000
    """What is thrown away of a body that was refused: who is still sending when the connection ends sees no answer."""
