"""Makes a provider's calls over HTTP."""

from services.delivery.domain.channels import Channel
from services.delivery.domain.failures import Failure
from services.delivery.providers.base import Outbound, Provider, Sent, Signal
from services.delivery.providers.classify import failure_without_answer
from services.delivery.providers.exchanges import Answer
from services.delivery.providers.http import HttpClient
from services.kernel.clock import Clock


class HttpCalls:
    """`Calls` over HTTP."""

    def __init__(self, http: HttpClient, clock: Clock) -> None:
        self._http = http
        self._clock = clock

    @property
    def timeout(self) -> float:
        return self._http.timeout

    async def make(self, provider: Provider, outbound: Outbound, channel: Channel) -> Sent | Failure:
        result = await self._http.call(provider.request(outbound, channel))
        if not isinstance(result, Answer):
            return failure_without_answer(result)
        return provider.classify(result, outbound, channel, self._clock.now())

    async def signal(self, provider: Provider, signal: Signal, channel: Channel) -> bool:
        """One call for a signal; whether the provider took it."""
        if provider.signal is None:
            return False
        result = await self._http.call(provider.signal(signal, channel))
        return isinstance(result, Answer) and 200 <= result.status < 300
