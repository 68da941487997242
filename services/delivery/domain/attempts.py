"""One call to a provider, and what the provider has said of it since."""

from enum import IntEnum

import msgspec

from services.delivery.domain.failures import FailureKind


class ProviderStatus(IntEnum):
    """What a provider reports. The numbers are those of `parley.delivery.v1.ProviderStatus`."""

    NONE = 0
    SENT = 1
    DELIVERED = 2
    READ = 3
    FAILED = 4
    UNKNOWN = 5
    """A word that this version does not know."""


_ORDER = (
    ProviderStatus.NONE,
    ProviderStatus.SENT,
    ProviderStatus.FAILED,
    ProviderStatus.DELIVERED,
    ProviderStatus.READ,
)
"""Statuses come twice and in any order. A late `sent` takes nothing back, and what was delivered did not fail."""


class Attempt(msgspec.Struct, frozen=True, array_like=True):
    """One call. `ended` is 0 while it runs, or when the process died.

    `provider_message_id` is what the provider calls what it took; `said` is the furthest that it has reported of it.
    """

    started: int
    ended: int = 0
    http_status: int = 0
    failure: FailureKind = FailureKind.NONE
    error: str = ""
    provider_message_id: str = ""
    said: ProviderStatus = ProviderStatus.NONE

    @property
    def reached(self) -> bool:
        """Whether the provider took it, by its answer or by a status, and has not said since that it failed."""
        if self.said is not ProviderStatus.NONE:
            return self.said is not ProviderStatus.FAILED
        return self.ended > 0 and self.failure is FailureKind.NONE

    @property
    def unanswered(self) -> bool:
        """Whether nobody knows what came of it: it runs, or its answer was lost."""
        lost = self.failure is FailureKind.UNKNOWN_OUTCOME
        return self.said is ProviderStatus.NONE and (lost or (not self.ended and self.failure is FailureKind.NONE))


def is_news(said: ProviderStatus, status: ProviderStatus) -> bool:
    """Whether a status says more than what was said before."""
    return _ORDER.index(status) > _ORDER.index(said)
