"""Listens, and stops in order."""

import asyncio
import socket

from starlette.types import ASGIApp

from services.edge.server.bounds import Bounds
from services.edge.server.connection import Connection
from services.edge.server.door import Door
from services.edge.server.peers import Proxies
from services.runtime.logs import get_logger

log = get_logger(__name__)

SWEEP_SECONDS = 0.5
BACKLOG = 1024
RECEIVE_BUFFER = 65_536
"""Bytes that the kernel takes of a connection ahead of us."""


class HttpServer:
    """Serves an ASGI application until it is told to stop; then lets requests finish, for `drain` seconds at most."""

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        *,
        drain: float,
        door: Door | None = None,
    ) -> None:
        self.door = door or Door(Bounds(), Proxies(""))
        self.port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """Where it listens, once it does."""
        self._app = app
        self._address = (host, port)
        self._drain = drain

    async def run(self, stop: asyncio.Event) -> None:
        """Background work of the service. Raises OSError when the port is taken."""
        server = await self._listen()
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stopping.done():
                await asyncio.wait({stopping}, timeout=SWEEP_SECONDS)
                self.door.sweep()
        finally:
            stopping.cancel()
            server.close()
            await self._finish()

    async def _listen(self) -> asyncio.Server:
        host, port = self._address
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listener = socket.create_server(address[:2], family=family, backlog=BACKLOG)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        server = await loop.create_server(lambda: Connection(self.door, self._app), sock=listener, backlog=BACKLOG)
        self.port.set_result(int(listener.getsockname()[1]))
        log.info("listening", address=f"{host}:{self.port.result()}")
        return server

    async def _finish(self) -> None:
        """Let what is under way be answered; then close every connection."""
        self.door.closing = True
        for guest in list(self.door.guests):
            guest.leave()
        if self.door.tasks:
            await asyncio.wait(set(self.door.tasks), timeout=self._drain)
        for task in list(self.door.tasks):
            task.cancel()
        await asyncio.gather(*self.door.tasks, return_exceptions=True)
        for guest in list(self.door.guests):
            guest.leave()
