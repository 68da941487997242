"""Serves the application by uvicorn, whose connections faults can cut."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from services.simulator.connections import Connection

KEEP_ALIVE = 75
"""Seconds for which an idle connection stays open: longer than callers keep theirs, as with real providers."""


@asynccontextmanager
async def serving(app: ASGIApp, host: str, port: int, *, drain: float) -> AsyncIterator[int]:
    """Listens, and gives the port, which for 0 is any free one. Raises OSError when it is taken.

    At the end, requests have `drain` seconds to finish; then they are cut. uvicorn's own server is not used: it ends
    the process when the port is taken, and wakes up ten times a second.
    """
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
    )
    config.load()
    state = ServerState()
    listening = await asyncio.get_running_loop().create_server(
        lambda: Connection(config, state, {}), host, port, backlog=1024
    )
    try:
        yield int(listening.sockets[0].getsockname()[1])
    finally:
        listening.close()
        if state.tasks:
            await asyncio.wait(set(state.tasks), timeout=drain)
        cut_off = list(state.tasks)
        for task in cut_off:
            task.cancel()
        await asyncio.gather(*cut_off, return_exceptions=True)
        for connection in list(state.connections):
            connection.shutdown()
