"""Puts the simulator together and runs it."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.runtime import logs, process
from services.runtime.logs import get_logger
from services.simulator import openai
from services.simulator.app import Application
from services.simulator.calls import CallLog
from services.simulator.control import Control
from services.simulator.faults import Faults
from services.simulator.messenger import Messenger
from services.simulator.person import Person
from services.simulator.providers.registry import PROVIDERS
from services.simulator.scripts import Scripts
from services.simulator.server import serving
from services.simulator.settings import SimulatorSettings

log = get_logger(__name__)


@asynccontextmanager
async def simulating(settings: SimulatorSettings) -> AsyncIterator[str]:
    """Runs a simulator in this process; gives its address, `http://127.0.0.1:8090`."""
    calls, faults, scripts = CallLog(settings.simulator_calls), Faults(PROVIDERS, (openai.PROVIDER,)), Scripts()
    messengers = {name: Messenger(provider, calls, faults) for name, provider in PROVIDERS.items()}
    model, person = openai.ResponsesApi(calls, faults, scripts), Person(calls, faults)
    control = Control(calls, faults, scripts, {**messengers, openai.PROVIDER: model})
    further = (name.strip() for name in settings.simulator_hosts.split(",") if name.strip())
    app = Application(
        [
            *(route for messenger in messengers.values() for route in messenger.routes()),
            *model.routes(),
            *control.routes(),
            *person.routes(),
        ],
        hosts=[settings.host, *further],
    )
    try:
        async with serving(app, settings.host, settings.simulator_port, drain=settings.drain_seconds) as port:
            yield f"http://{settings.host}:{port}"
    finally:
        await person.close()


async def serve(settings: SimulatorSettings) -> int:
    """Runs until told to stop; the exit code."""
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    try:
        async with simulating(settings) as address:
            log.info("serving", address=address)
            await told.wait()
    except OSError as error:
        log.critical("cannot serve", exc_info=error)
        return 1
    log.info("stopped")
    return 0


def main() -> None:
    """Runs the simulator as this process until SIGTERM or SIGINT. Exits with 1 when its port is taken."""
    import uvloop

    settings = SimulatorSettings()
    logs.configure("simulator", settings.log_level)
    process.die_with_parent()
    sys.exit(uvloop.run(serve(settings)))
