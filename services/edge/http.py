"""The HTTP server, run beside the rest of the process."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp


class HttpServer:
    """Serves an ASGI application until it is told to stop; then lets requests finish, for `drain` seconds at most."""

    def __init__(self, app: ASGIApp, host: str, port: int, *, drain: float) -> None:
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=1024,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=max(1, round(drain)),
        )
        self._server = _Server(config)

    async def run(self, stop: asyncio.Event) -> None:
        """Background work of the service. Raises OSError when the port is taken."""
        serving = asyncio.create_task(self._server.serve())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        self._server.should_exit = True
        try:
            await serving
        except SystemExit as error:
            raise OSError("the HTTP port cannot be listened on; the log line before this one says why") from error
        finally:
            stopping.cancel()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the service's affair."""
        yield
