"""Settings of the edge."""

from pydantic import Field

from services.runtime.settings import Settings


class EdgeSettings(Settings):
    """`PARLEY_EDGE_...`, besides those of every service."""

    edge_port: int = 8080
    """HTTP port; 0 for any free one."""
    edge_max_body_bytes: int = Field(default=1_000_000, ge=1)
    """Largest body of a request."""
    edge_body_memory_bytes: int = Field(default=32_000_000, ge=1)
    """Memory for all bodies that are still arriving; beyond it, requests are answered with 503."""
    edge_body_seconds: float = Field(default=10.0, gt=0)
    """Seconds within which a body must arrive; a large one gets a second more for each 20,000 bytes received."""
    edge_max_header_bytes: int = Field(default=16_384, ge=1024)
    """Largest size of a request's address and headers. More than a hundred headers are refused too."""
    edge_header_seconds: float = Field(default=10.0, gt=0)
    """Seconds within which a request's headers must arrive."""
    edge_idle_seconds: float = Field(default=75.0, gt=0)
    """Seconds for which a connection is kept open for its next request."""
    edge_max_connections: int = Field(default=2000, ge=1)
    """Connections at once, if the system allows so many. One more takes the place of the one that is idle longest."""
    edge_max_connections_per_address: int = Field(default=1000, ge=1)
    """Connections at once of one IPv4 address or one /64 of IPv6; trusted proxies are not counted."""
    edge_max_requests: int = Field(default=1000, ge=1)
    """Requests that are answered at once; more are answered with 503."""
    edge_max_failures: int = Field(default=60, ge=1)
    """Unknown API keys, wrong secrets and unknown channels that one address may show in a minute; more get 429."""
    edge_trusted_proxies: str = ""
    """Addresses and networks of proxies, separated by commas. `X-Forwarded-For` is read from these only."""
    edge_submit_timeout_seconds: float = 5.0
    """Seconds that a webhook waits for its commit before it is answered with 503."""
    edge_chat_timeout_seconds: float = 30.0
    """Seconds that `/v1/chat/*` waits for a reply before it is answered with 504."""
    edge_chat2desk_channel: str = ""
    """The channel of `POST /webhook/chat2desk`."""
