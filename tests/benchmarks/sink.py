"""The provider's end, in the process of the load: one clock measures from webhook to provider."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tests.benchmarks.wire import Provider

TOKEN = "bench-token-of-the-provider"


class Sink:
    """Hands each message that the provider was given to `on_message` (the person's number, the text)."""

    def __init__(self) -> None:
        self.port = 0
        self.on_message: Callable[[int, str], None] = lambda client, text: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def listening(self, token: str = TOKEN) -> AsyncIterator["Sink"]:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: Provider(token.encode(), lambda client, text: self.on_message(client, text)),
            "127.0.0.1",
            0,
            backlog=1024,
        )
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
