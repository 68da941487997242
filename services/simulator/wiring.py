"""Puts the simulator together and runs it."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.runtime import logs, process
from services.runtime.logs import get_logger
from services.simulator import chat2desk
from services.simulator.calls import CallLog
from services.simulator.chat2desk import Chat2Desk
from services.simulator.control import Control
from services.simulator.faults import Faults
from services.simulator.model import ResponsesApi
from services.simulator.say import Person
from services.simulator.scripts import Scripts
from services.simulator.server import HttpServer
from services.simulator.settings import SimulatorSettings

log = get_logger(__name__)


@asynccontextmanager
async def simulating(settings: SimulatorSettings) -> AsyncIterator[str]:
    """Runs a simulator in this process; gives its address, `http://127.0.0.1:8090`."""
    calls, faults, scripts = CallLog(settings.simulator_calls), Faults(), Scripts()
    messenger, model = Chat2Desk(calls, faults), ResponsesApi(calls, faults, scripts)
    person, control = Person(calls, faults), Control(calls, faults, scripts, messenger, model)
    server = HttpServer(
        {
            ("POST", chat2desk.PATH): messenger.send,
            ("POST", "/openai/v1/responses"): model.create,
            ("GET", "/openai/v1/models"): model.models,
            ("GET", "/health"): control.health,
            ("GET", "/calls"): control.list_calls,
            ("DELETE", "/calls"): control.delete_calls,
            ("GET", "/faults"): control.list_faults,
            ("POST", "/faults"): control.add_fault,
            ("DELETE", "/faults"): control.delete_faults,
            ("GET", "/scripts"): control.list_scripts,
            ("POST", "/scripts"): control.add_scripts,
            ("DELETE", "/scripts"): control.delete_scripts,
            ("PUT", "/tokens"): control.set_tokens,
            ("POST", "/say"): person.say,
        },
        hosts=[settings.host, *(name.strip() for name in settings.simulator_hosts.split(",") if name.strip())],
    )
    port = await server.start(settings.host, settings.simulator_port)
    try:
        yield f"http://{settings.host}:{port}"
    finally:
        await server.stop(settings.drain_seconds)
        await person.close()


async def serve(settings: SimulatorSettings) -> int:
    """Run until told to stop; the exit code."""
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
    """Run the simulator as this process until SIGTERM or SIGINT. Exits with 1 when its port is taken."""
    import uvloop

    settings = SimulatorSettings()
    logs.configure("simulator", settings.log_level)
    process.die_with_parent()
    sys.exit(uvloop.run(serve(settings)))
