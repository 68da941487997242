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
    """What all bodies that are still coming may take together; beyond, requests are answered with 503."""
    edge_body_seconds: float = Field(default=10.0, gt=0)
    """How long a body may take to come; a large one gets a second more for each 20,000 bytes that came."""
    edge_max_header_bytes: int = Field(default=16_384, ge=1024)
    """Largest address and headers of a request; more than a hundred headers are refused too."""
    edge_header_seconds: float = Field(default=10.0, gt=0)
    """How long a request's headers may take to come."""
    edge_idle_seconds: float = Field(default=75.0, gt=0)
    """How long a connection is kept for its next request."""
    edge_max_connections: int = Field(default=2000, ge=1)
    """Connections at once, if the system allows so many; a further one takes the place of the one idle longest."""
    edge_max_connections_per_address: int = Field(default=1000, ge=1)
    """Connections at once of one IPv4 address or one /64 of IPv6; trusted proxies are not counted."""
    edge_max_requests: int = Field(default=1000, ge=1)
    """Requests that are answered at once; beyond, they are answered with 503."""
    edge_max_failures: int = Field(default=60, ge=1)
    """Unknown API keys, wrong secrets and unknown channels of one address in a minute; beyond, 429."""
    edge_trusted_proxies: str = ""
    """Addresses and networks, separated by commas, whose `X-Forwarded-For` is believed; all others' is not read."""
    edge_submit_timeout_seconds: float = 5.0
    """How long a webhook waits for its commit before it is answered with 503."""
    edge_chat_timeout_seconds: float = 30.0
    """How long `/v1/chat/*` waits for a reply before it is answered with 504."""
    edge_chat2desk_channel: str = ""
    """Channel of `POST /webhook/chat2desk`."""
