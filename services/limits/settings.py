"""Settings of the limits service."""

from pydantic import Field

from services.runtime.settings import Settings


class LimitsSettings(Settings):
    """`PARLEY_LIMITS_...`, besides those of every service."""

    limits_port: int = 50053
    """gRPC port; 0 for any free one."""
    limits_redis_budget_seconds: float = Field(default=0.05, gt=0)
    """How long Redis may take; then each rule's failure mode decides."""
    limits_poll_seconds: float = Field(default=1.0, gt=0)
    """Time between two looks whether rules have changed, in case a notice of it was lost."""
