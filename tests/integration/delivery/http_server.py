"""A server that does what servers do, and the HTTP client that calls it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from services.delivery.providers.exchanges import Request, Result
from services.delivery.providers.http import HttpClient
from services.runtime.egress import Egress

LOCAL = Egress.of("loopback")

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Server:
    """Answers each request (read to its end) with the next of its answers; an empty one closes the connection."""

    def __init__(self, *answers: bytes | Callable[[], object]) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self.connections = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int((head.lower() + b"content-length: 0\r\n").split(b"content-length: ")[1].split(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                answer = self.answers.pop(0) if self.answers else OK
                if callable(answer):
                    await asyncio.sleep(60)
                    return
                for piece in answer.split(b"|"):
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.01)
                if not answer or b"close" in answer:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def target(self, path: str = "/v1/messages") -> str:
        return self.url + path


@asynccontextmanager
async def serving(server: Server, *, timeout: float = 30.0) -> AsyncIterator[HttpClient]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    client = HttpClient(LOCAL, timeout=timeout)
    try:
        yield client
    finally:
        await client.close()
        listening.close()


async def post(client: HttpClient, url: str, body: bytes = b"{}") -> Result:
    return await client.call(Request(url, {"Authorization": "token"}, body))
