"""Listens for connections, and stops in an orderly way."""

import asyncio
import socket

from starlette.types import ASGIApp

from services.edge.server.addresses import Proxies
from services.edge.server.admission import Admission
from services.edge.server.bounds import Bounds
from services.edge.server.connection import Connection
from services.runtime.logs import get_logger

log = get_logger(__name__)

SWEEP_SECONDS = 0.5
BACKLOG = 1024
RECEIVE_BUFFER = 65_536
"""Bytes of a connection that the kernel holds for us."""


class HttpServer:
    """Serves an ASGI application until it is told to stop; then lets requests finish, for `drain` seconds at most."""

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        *,
        drain: float,
        admission: Admission | None = None,
    ) -> None:
        self.admission = admission or Admission(Bounds(), Proxies(""))
        self.port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """The port, once it listens."""
        self._app = app
        self._address = (host, port)
        self._drain = drain

    async def run(self, stop: asyncio.Event) -> None:
        """Serves until `stop` is set. Raises OSError when the port is taken."""
        server = await self._listen()
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stopping.done():
                await asyncio.wait({stopping}, timeout=SWEEP_SECONDS)
                self.admission.close_overdue()
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
        server = await loop.create_server(lambda: Connection(self.admission, self._app), sock=listener, backlog=BACKLOG)
        self.port.set_result(int(listener.getsockname()[1]))
        log.info("listening", address=f"{host}:{self.port.result()}")
        return server

    async def _finish(self) -> None:
        """Lets requests under way be answered, then closes every connection."""
        self.admission.closing = True
        for connection in list(self.admission.connections):
            connection.finish()
        if self.admission.requests:
            await asyncio.wait(set(self.admission.requests), timeout=self._drain)
        for task in list(self.admission.requests):
            task.cancel()
        await asyncio.gather(*self.admission.requests, return_exceptions=True)
        for connection in list(self.admission.connections):
            connection.finish()
