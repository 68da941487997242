"""Settings of the edge."""

from services.runtime.settings import Settings


class EdgeSettings(Settings):
    """`PARLEY_EDGE_...`, besides those of every service."""

    edge_port: int = 8080
    """HTTP port; 0 for any free one."""
    edge_max_body_bytes: int = 1_000_000
    """Largest body of a request."""
    edge_submit_timeout_seconds: float = 5.0
    """How long a webhook waits for its commit before it is answered with 503."""
    edge_chat_timeout_seconds: float = 30.0
    """How long `/v1/chat/*` waits for a reply before it is answered with 504."""
    edge_chat2desk_channel: str = ""
    """Channel of `POST /webhook/chat2desk`."""
