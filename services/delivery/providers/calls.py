"""Makes a provider's calls over HTTP."""

from services.delivery.domain.channels import Channel
from services.delivery.domain.failures import Failure, FailureKind
from services.delivery.providers.base import Outbound, Provider, Sent
from services.delivery.providers.classify import failure_without_answer
from services.delivery.providers.http import HttpClient
from services.delivery.providers.wire import Answer, Target
from services.kernel.clock import Clock

_TARGETS = 1000
"""Addresses that are kept as they were read."""


class HttpCalls:
    """`Calls` over HTTP."""

    def __init__(self, http: HttpClient, clock: Clock) -> None:
        self._http = http
        self._clock = clock
        self._targets: dict[str, Target] = {}

    @property
    def timeout(self) -> float:
        return self._http.timeout

    async def make(self, provider: Provider, outbound: Outbound, channel: Channel) -> Sent | Failure:
        request = provider.request(outbound, channel)
        try:
            target = self._target(request.url)
        except ValueError as wrong:
            return Failure(FailureKind.FATAL, 0, f"api_base: {wrong}")
        result = await self._http.post(target, headers=request.headers, body=request.body)
        if not isinstance(result, Answer):
            return failure_without_answer(result)
        return provider.classify(result, outbound, channel, self._clock.now())

    def _target(self, url: str) -> Target:
        target = self._targets.get(url)
        if target is None:
            if len(self._targets) >= _TARGETS:
                self._targets.clear()
            target = self._targets[url] = Target.of(url)
        return target
