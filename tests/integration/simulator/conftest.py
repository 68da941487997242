"""A simulator in this process, over real HTTP."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from services.simulator.settings import SimulatorSettings
from services.simulator.wiring import simulating
from tests.support.simulator import Simulator


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    settings = SimulatorSettings(simulator_port=0, simulator_calls=50, drain_seconds=0.1)
    async with simulating(settings) as url, aiohttp.ClientSession() as http:
        yield Simulator(url, http)
