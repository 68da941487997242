"""How much a caller may send, and how long it may take."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bounds:
    """Bounds in bytes and seconds. Where it is possible the caller is told that it went beyond one."""

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
    """From a request's first byte, or the connection's start, to the end of the headers."""
    idle_seconds: float = 75.0
    """Between two requests of a connection."""
    body_seconds: float = 10.0
    """For a whole body; one second more for each `body_bytes_per_second` received."""
    body_bytes_per_second: int = 20_000
    body_bytes: int = 1_000_000
    """The largest body that the application reads. With chunks and trailers it may take eight times as much."""
    unread_bytes: int = 65_536
    """Bytes taken from the network ahead of the application."""
    write_seconds: float = 30.0
    """Until a caller that does not take its answer is disconnected."""
    linger_seconds: float = 5.0
    linger_bytes: int = 32_000_000
    """How much of a refused body is thrown away, so that a caller that is still sending sees the answer."""
