"""One exchange over HTTP: what is asked, of whom, and what comes of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from aiohttp import FormData
from yarl import URL


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked."""

    url: str
    headers: Mapping[str, str]
    body: bytes | FormData | None = None
    method: str = "POST"
    timeout: float | None = None
    """Seconds for all of it; None for the client's usual time."""
    proxy: str = ""
    """The address of a proxy; empty for the one that the environment names, if any."""

    def check(self) -> None:
        """Raises ValueError for a header that would end early, or that cannot be sent."""
        text = "".join(name + value for name, value in self.headers.items())
        if "\r" in text or "\n" in text or "\0" in text:
            raise ValueError("a line break in a header")
        if not text.isascii():
            raise ValueError("a character that no request can carry")


@dataclass(frozen=True, slots=True)
class File:
    """A file of a multipart form, under the name of its field."""

    field: str
    name: str
    content_type: str
    data: bytes


def form(fields: Mapping[str, str], files: Iterable[File]) -> FormData:
    """A multipart form, for uploads; good for one request."""
    made = FormData(dict(fields), default_to_multipart=True)
    for file in files:
        made.add_field(file.field, file.data, filename=file.name, content_type=file.content_type)
    return made


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. Names of `headers` are in lower case; of several of one name the last counts."""

    status: int
    headers: dict[str, str]
    body: bytes
    """No more than its first 64 KB."""


@dataclass(frozen=True, slots=True)
class NotSent:
    """The request never left, as there was no connection in time. Trying again cannot send twice.

    `wrong_address`: there never will be one, because the address is refused or is no address.
    """

    error: str
    wrong_address: bool = False


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The request left, wholly or in part, and no whole answer came."""

    error: str


Result = Answer | NotSent | NoAnswer


@lru_cache(maxsize=1000)
def target(url: str) -> URL:
    """Where a request goes, its path as it is written. Raises ValueError for what no request can go to."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not an http or https address")
    host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
    if not (parts.path + parts.query).isascii() or not url.isprintable():
        raise ValueError("a character that no request can carry")
    return URL.build(
        scheme=parts.scheme,
        host=f"[{host}]" if ":" in host else host,
        port=parts.port,
        path=parts.path or "/",
        query_string=parts.query,
        encoded=True,
    )
