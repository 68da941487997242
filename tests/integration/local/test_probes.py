"""What is found of a server that goes away in the ways in which servers do."""

import asyncio

import pytest

from deploy.local.probes import GrpcHealth, Health


@pytest.mark.parametrize("turns", range(5))
async def test_a_look_at_a_process_ends_with_it_also_when_its_health_changes_with_that(turns: int) -> None:
    probe = GrpcHealth("127.0.0.1:1")
    resting = asyncio.create_task(probe.rest(30.0))
    await asyncio.sleep(0.01)
    probe._tell(Health.WELL)
    for _ in range(turns):
        await asyncio.sleep(0)
    ended_before = resting.done()
    resting.cancel()
    await asyncio.wait({resting}, timeout=5.0)
    assert ended_before or resting.cancelled()
