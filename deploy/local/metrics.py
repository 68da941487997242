"""The metrics of all processes of the stack on one page for Prometheus."""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException

from parley_client.tokens import TokenSource
from services.runtime.metrics.page import AUDIENCE

SECONDS = 3.0
"""The longest wait for one process."""
LARGEST = 4 * 1024 * 1024
UP = "parley_up"


class Gathered:
    """Asks every process for its page."""

    def __init__(self, pages: Mapping[str, tuple[str, int]], tokens: TokenSource) -> None:
        """`pages`: host and port of the page of each service."""
        self._pages = pages
        self._tokens = tokens

    async def text(self) -> bytes:
        """Returns one page made of the pages of all that answer."""
        token = self._tokens.token(AUDIENCE)
        texts = await asyncio.gather(*(asyncio.to_thread(fetch, *page, token) for page in self._pages.values()))
        return merged(dict(zip(self._pages, texts, strict=True))).encode()


def fetch(host: str, port: int, token: str) -> str | None:
    """Returns what a process shows; None if it does not answer."""
    connection = HTTPConnection(host, port, timeout=SECONDS)
    try:
        connection.request("GET", "/metrics", headers={"authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return answer.read(LARGEST).decode(errors="replace") if answer.status == HTTPStatus.OK else None
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def merged(texts: Mapping[str, str | None]) -> str:
    """Joins pages: the format wants all samples of a metric together. They differ by their label `service_name`."""
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
