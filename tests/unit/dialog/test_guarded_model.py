"""DLG-12: an endpoint that answers nobody is left alone, and is not taken for a message's own failure."""

import asyncio
from collections.abc import Awaitable

import pytest

from services.dialog.domain.failures import Blame, DecisionError, FailureKind
from services.dialog.domain.flows import Usage
from services.dialog.model import (
    Finish,
    ModelAnswer,
    OnDelta,
    Prompt,
    Said,
)
from services.dialog.model.guarded import (
    LOOK_AGAIN,
    OF_LATE,
    POLICY,
    GuardedModel,
)

ANSWER = ModelAnswer("fine", Finish.COMPLETE, "m", "r", Usage())
AWAY = (FailureKind.RETRYABLE, "MODEL_UNAVAILABLE")
TIMEOUT = (FailureKind.RETRYABLE, "MODEL_TIMEOUT")
REJECTED = (FailureKind.TERMINAL, "MODEL_REJECTED")


class Endpoint:
    """Answers, or fails as told."""

    def __init__(self) -> None:
        self.fails: tuple[FailureKind, str] | None = None
        self.asked = 0
        self.held: asyncio.Event | None = None

    async def answer(self, prompt: Prompt, on_delta: OnDelta) -> ModelAnswer:
        self.asked += 1
        if self.held is not None:
            await self.held.wait()
        if self.fails is not None:
            raise DecisionError(*self.fails, "no")
        return ANSWER

    async def close(self) -> None:
        """Has nothing to close."""


class Guarded:
    """A guarded endpoint, and the time."""

    def __init__(self) -> None:
        self.endpoint = Endpoint()
        self.time = 1000.0
        self.model = GuardedModel(self.endpoint, now=lambda: self.time)

    def ask(self, timeout: float = 30.0) -> Awaitable[ModelAnswer]:
        async def nobody(_: str) -> None: ...

        return self.model.answer(Prompt("", "", [Said("user", "hi")], 10, timeout), nobody)

    async def fails(self, times: int = 1, timeout: float = 30.0) -> DecisionError:
        for _ in range(times):
            with pytest.raises(DecisionError) as raised:
                await self.ask(timeout)
        return raised.value

    async def opened(self) -> None:
        self.endpoint.fails = AWAY
        await self.fails(POLICY.failures)


@pytest.fixture
def guarded() -> Guarded:
    return Guarded()


async def test_failures_in_a_row_open_the_breaker_and_then_nothing_is_asked(guarded: Guarded) -> None:
    await guarded.opened()
    assert guarded.endpoint.asked == POLICY.failures
    error = await guarded.fails()
    assert guarded.endpoint.asked == POLICY.failures
    assert (error.kind, error.reason, error.blame) == (*AWAY, Blame.ENDPOINT)
    assert error.retry_after is not None
    assert POLICY.first_open <= error.retry_after <= 2 * POLICY.first_open
    with pytest.raises(DecisionError):
        guarded.model.check()


async def test_one_call_finds_out_and_the_others_wait_for_it(guarded: Guarded) -> None:
    await guarded.opened()
    guarded.time += POLICY.first_open
    guarded.model.check()
    guarded.endpoint.held, guarded.endpoint.fails = asyncio.Event(), None
    probe = asyncio.ensure_future(guarded.ask())
    await asyncio.sleep(0)
    error = await guarded.fails()
    assert error.retry_after is not None
    assert error.retry_after <= 2 * LOOK_AGAIN
    guarded.endpoint.held.set()
    assert await probe == ANSWER
    guarded.model.check()
    assert await guarded.ask() == ANSWER


async def test_a_probe_that_fails_costs_no_attempt_and_makes_the_next_wait_longer(guarded: Guarded) -> None:
    await guarded.opened()
    guarded.time += POLICY.first_open
    error = await guarded.fails()
    assert error.blame is Blame.ENDPOINT
    assert error.retry_after is not None
    assert error.retry_after >= 2 * POLICY.first_open


async def test_a_probe_that_is_cancelled_leaves_the_next_call_to_find_out(guarded: Guarded) -> None:
    await guarded.opened()
    guarded.time += POLICY.first_open
    guarded.endpoint.held, guarded.endpoint.fails = asyncio.Event(), None
    probe = asyncio.ensure_future(guarded.ask())
    await asyncio.sleep(0)
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    guarded.endpoint.held.set()
    assert await guarded.ask() == ANSWER


async def test_while_others_are_answered_the_message_is_to_blame(guarded: Guarded) -> None:
    await guarded.ask()
    guarded.endpoint.fails = AWAY
    assert (await guarded.fails()).blame is Blame.MESSAGE
    guarded.time += OF_LATE + 0.1
    assert (await guarded.fails()).blame is Blame.NOBODY


async def test_an_endpoint_that_refuses_is_not_away(guarded: Guarded) -> None:
    guarded.endpoint.fails = REJECTED
    assert (await guarded.fails(3 * POLICY.failures)).blame is Blame.MESSAGE
    guarded.model.check()


async def test_a_bot_that_hardly_waits_does_not_close_the_endpoint_to_others(guarded: Guarded) -> None:
    guarded.endpoint.fails = TIMEOUT
    await guarded.fails(3 * POLICY.failures, timeout=1.0)
    guarded.model.check()
    await guarded.fails(POLICY.failures, timeout=30.0)
    with pytest.raises(DecisionError):
        guarded.model.check()
