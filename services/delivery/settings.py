"""Settings of the delivery service."""

from pydantic import Field

from services.delivery.domain.retry import UnknownPolicy
from services.runtime.settings import Settings


class DeliverySettings(Settings):
    """`PARLEY_DELIVERY_...`, besides those of every service."""

    delivery_port: int = 50054
    """gRPC port; 0 for any free one."""
    delivery_concurrency: int = Field(default=96, ge=1)
    """Conversations that one process sends to at a time."""
    delivery_fair_tenant: float = Field(default=3.0, gt=0)
    """How many times as many of these places as are left one tenant may hold; who has none always gets one."""
    delivery_fair_share: float = Field(default=2.0, gt=0)
    """The same for one channel, of what is left for its tenant. A channel alone gets two thirds of all places."""
    delivery_timeout_seconds: float = Field(default=10.0, gt=0)
    """How long one call to a provider may take."""
    delivery_lease_seconds: float = Field(default=30.0, gt=0)
    """How long a worker has a conversation before it must renew; a dead worker's is taken over after that."""
    delivery_tries: int = Field(default=50, ge=1)
    """Tries of a part before it is dead."""
    delivery_first_delay_seconds: float = Field(default=1.0, gt=0)
    """Wait after the first failed try; it doubles with each further one."""
    delivery_longest_delay_seconds: float = Field(default=300.0, gt=0)
    """The longest wait between two tries."""
    delivery_patience_seconds: float = Field(default=600.0, ge=0)
    """For so long a failing part holds its conversation up; then it is retried beside it."""
    delivery_unknown_policy: UnknownPolicy = UnknownPolicy.RETRY
    """After a call of unknown outcome: `retry` on schedule, or `hold` for the provider's status first."""
    delivery_hold_seconds: float = Field(default=60.0, ge=0, le=60)
    """How long `hold` waits before it tries again."""
    delivery_breaker_failures: int = Field(default=5, ge=1)
    """Failed calls in a row that open a channel's breaker."""
    delivery_breaker_seconds: float = Field(default=2.0, gt=0)
    """How long it stays open the first time; twice as long each further time, up to a minute."""
    delivery_rate_max_wait_seconds: float = Field(default=60.0, ge=0)
    """How far ahead a slot of a channel's rate may be."""
    delivery_rate_alone_per_minute: float = Field(default=60.0, gt=0)
    """Calls a minute of one process on one channel while the limits service is away."""
    delivery_connections: int = Field(default=128, ge=1)
    """Connections to one provider's host at most."""
    delivery_channel_poll_seconds: float = Field(default=1.0, gt=0)
    """How often channels are looked at, in case word of a change was lost."""
