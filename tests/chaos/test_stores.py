"""Stores that are killed under traffic, services that are killed at any moment, and one that sleeps."""

import asyncio
import random
import signal

import pytest

from tests.chaos import crowd
from tests.support.mesh import Mesh

SERVICES = ("edge", "dialog", "context", "limits", "delivery")


@pytest.mark.parametrize("name", ["redis", "postgres"])
async def test_a_store_that_is_killed_under_traffic(stack: Mesh, name: str) -> None:
    people = crowd.crowd(stack, customers=6)
    writing = asyncio.create_task(crowd.write(people))
    await crowd.under_way(people)
    await crowd.kill(stack, name)
    await writing
    beyond = await crowd.check(people)
    # Without Postgres, what came of a call under way may find no place to be written down.
    assert beyond == crowd.Beyond() or name == "postgres", f"done beyond the necessary: {beyond}"


async def test_a_worker_that_is_paused_beyond_its_lease_does_no_harm(stack: Mesh) -> None:
    people = crowd.crowd(stack, customers=6)
    writing = asyncio.create_task(crowd.write(people))
    await crowd.under_way(people)
    for name in ("dialog", "delivery"):
        stack.kill(name, signal.SIGSTOP)
    await asyncio.sleep(12.0)  # longer than any lease of this stack, also one that was renewed for a call
    for name in ("dialog", "delivery"):
        stack.kill(name, signal.SIGCONT)
    await writing
    await crowd.check(people)


async def test_every_service_killed_in_turn(stack: Mesh) -> None:
    people = crowd.crowd(stack, customers=8, askers=4)
    writing = asyncio.create_task(crowd.write(people))
    await crowd.under_way(people)
    for name in random.Random(7).sample(SERVICES, len(SERVICES)):
        await crowd.kill(stack, name)
        latecomer = crowd.Customer(stack)
        people.append(latecomer)
        await latecomer.write()
    await writing
    await crowd.check(people)
