"""Providers that hang, fail or cut the connection, also while who calls them dies."""

import asyncio

import pytest

from tests.chaos import crowd
from tests.support.mesh import Mesh, until
from tests.support.simulator import Simulator


@pytest.fixture
def simulator(stack: Mesh) -> Simulator:
    return Simulator(stack.simulator, stack.http)


async def test_a_provider_that_fails_is_asked_again_and_only_unknown_outcomes_are_marked(
    stack: Mesh, simulator: Simulator
) -> None:
    hung, cut, failed, refused = people = [crowd.Customer(stack) for _ in range(4)]
    await _fault(simulator, hung, "hang")
    await _fault(simulator, cut, "drop_after")
    await _fault(simulator, failed, "status", status=500, count=2)
    await _fault(simulator, refused, "refuse", count=2)
    await crowd.write(people)
    assert await hung.check() == crowd.Beyond(replies=0, marked=1), "it did not take what it hung at"
    assert await cut.check() == crowd.Beyond(replies=1, marked=1), "it had taken what it did not answer"
    assert await failed.check() == crowd.Beyond(replies=0, marked=0), "it had refused"
    assert (await refused.check()).replies == 0, "it had cut the connection before it took anything"


async def test_delivery_dies_while_a_provider_hangs_and_another_call_has_failed(
    stack: Mesh, simulator: Simulator
) -> None:
    hung, failed, well = people = [crowd.Customer(stack) for _ in range(3)]
    await _fault(simulator, hung, "hang", seconds=30)
    await _fault(simulator, failed, "status", status=503, count=2)
    writing = asyncio.create_task(crowd.write(people))
    await _called(simulator, hung, "hang")
    await _called(simulator, failed, "status")
    await crowd.kill(stack, "delivery")
    await writing
    assert await hung.check() == crowd.Beyond(replies=0, marked=1)
    for person in (failed, well):
        beyond = await person.check()
        assert beyond.replies <= beyond.marked <= 1, beyond


async def test_dialog_dies_while_a_model_thinks(stack: Mesh, simulator: Simulator) -> None:
    slow, failing = people = [crowd.Asker(stack) for _ in range(2)]
    await simulator.fault("openai", "delay", seconds=60, match={"text": slow.text(0)})
    await simulator.fault("openai", "status", status=503, match={"text": failing.text(1)})
    writing = asyncio.create_task(crowd.write(people))

    async def thinking() -> bool:
        return any(call["text"] == slow.text(0) for call in await simulator.calls(provider="openai", limit=1000))

    await until(thinking, crowd.PATIENCE, "question")
    await crowd.kill(stack, "dialog")
    await writing
    beyond = await crowd.check(people)
    assert beyond.questions <= 2, beyond


async def _fault(simulator: Simulator, customer: crowd.Customer, kind: str, **values: object) -> None:
    """At this customer's second reply."""
    match = {"client_id": customer.person.client_id}
    await simulator.fault("chat2desk", kind, skip=1, match=match, **values)


async def _called(simulator: Simulator, customer: crowd.Customer, fault: str) -> None:
    async def met() -> bool:
        calls = await simulator.calls(provider="chat2desk", client_id=customer.person.client_id)
        return any(call["fault"] == fault for call in calls)

    await until(met, crowd.PATIENCE, f"call that meets {fault}")
