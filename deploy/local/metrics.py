"""The metrics of all processes of the stack on one page for Prometheus."""

import asyncio
from collections.abc import Mapping

from parley_client.tokens import TokenSource
from services.runtime.metrics.page import AUDIENCE

SECONDS = 3.0
"""For the answer of one process."""
LARGEST = 4 * 1024 * 1024
UP = "parley_up"


class Gathered:
    """Asks every process for its page."""

    def __init__(self, pages: Mapping[str, tuple[str, int]], tokens: TokenSource) -> None:
        """`pages`: host and port of the page of each service."""
        self._pages = pages
        self._tokens = tokens

    async def text(self) -> bytes:
        """One page made of the pages of all that answer."""
        texts = await asyncio.gather(*(fetch(*page, self._tokens.token(AUDIENCE)) for page in self._pages.values()))
        return merged(dict(zip(self._pages, texts, strict=True))).encode()


async def fetch(host: str, port: int, token: str) -> str | None:
    """What a process shows; None when it does not answer."""
    request = f"GET /metrics HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {token}\r\n\r\n"
    try:
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(request.encode())
                answer = await read_up_to(reader, LARGEST)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return None
    head, _, body = answer.partition(b"\r\n\r\n")
    return body.decode(errors="replace") if head.startswith(b"HTTP/1.1 200 ") else None


async def read_up_to(reader: asyncio.StreamReader, most: int) -> bytes:
    """Everything that comes. Raises OSError when it is more."""
    found = bytearray()
    while some := await reader.read(65_536):
        found += some
        if len(found) > most:
            raise OSError("the answer is too long")
    return bytes(found)


def merged(texts: Mapping[str, str | None]) -> str:
    """Pages as one: the format wants the samples of a metric together. Each has `service_name` among its labels."""
    metrics: dict[str, list[str]] = {
        UP: [f"# HELP {UP} 1 for each process that shows its metrics, 0 for each that does not.", f"# TYPE {UP} gauge"]
    }
    for name, text in texts.items():
        blocks = f"\n{text or ''}".split("\n# HELP ")[1:]
        metrics[UP].append(f'{UP}{{service_name="{name}"}} {float(bool(blocks))}')
        for block in blocks:
            lines = block.splitlines()
            metrics.setdefault(lines[0].partition(" ")[0], [f"# HELP {lines[0]}", *lines[1:2]]).extend(lines[2:])
    return "".join(f"{line}\n" for lines in metrics.values() for line in lines)
