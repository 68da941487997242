"""RUN-4: stopping and starting again."""

import asyncio
import time

from tests.chaos import crowd
from tests.support.mesh import Mesh


async def test_a_stop_under_traffic_and_a_second_start_lose_nothing(stack: Mesh) -> None:
    people = crowd.crowd(stack, customers=8, askers=2)
    secret = stack.demo["chat2desk"]["secret"]
    writing = asyncio.create_task(crowd.write(people))
    await crowd.under_way(people)
    await stack.stop()
    assert stack.process is not None
    assert stack.process.returncode == 0
    await stack.start()
    assert stack.demo["chat2desk"]["secret"] == secret
    await writing
    end = time.monotonic() + crowd.PATIENCE
    for each in people:  # the simulator, which was stopped as well, has forgotten what it took
        if isinstance(each, crowd.Customer):
            assert not await each.check_records(end), "after a stop in order no outcome is unknown"
        else:
            await each.check_records()
