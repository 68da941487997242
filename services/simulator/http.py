"""Requests and answers, and what is wrong with a request."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec

T = TypeVar("T")

DEEPEST = 64
"""Lists and objects that may lie in each other: far fewer than reading and writing them could do with."""
JSON = "application/json; charset=utf-8"
_BRACKETS = re.compile(rb'[\[\]{}]|"(?:[^"\\]|\\.)*"', re.DOTALL)
"""Those of JSON, and texts, in which they mean nothing."""


class HttpError(Exception):
    """Becomes an answer with `{"error": message}`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(slots=True)
class Request:
    """One request. Names of headers are in lower case."""

    method: str
    path: str
    query_string: bytes
    headers: Mapping[str, str]
    body: bytes
    keep_alive: bool = True

    def query(self) -> dict[str, str]:
        """Parameters of the address; of a repeated one the last."""
        return dict(parse_qsl(self.query_string.decode("latin-1"), keep_blank_values=True))

    def command(self) -> "Request":
        """Itself, when it is JSON by its content type, as no web page can send it unasked. Raises HttpError 415."""
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise HttpError(415, "send the header `content-type: application/json`")
        return self

    def json(self) -> Any:
        """The body. Raises HttpError 400."""
        if _is_deep(self.body):
            raise HttpError(
                400, f"the body is too deep: no more than {DEEPEST} lists and objects may lie in each other"
            )
        try:
            return msgspec.json.decode(self.body)
        except UnicodeDecodeError as error:
            raise HttpError(400, f"the body is not UTF-8 (at byte {error.start} of a text in it)") from error
        except (msgspec.DecodeError, ValueError) as error:
            raise HttpError(400, f"the body is not JSON: {error}") from error

    def read(self, kind: type[T]) -> T:
        """The body of a command. Raises HttpError 400, which names the key, and 415."""
        return converted(self.command().json(), kind)


@dataclass(slots=True)
class Response:
    """A whole answer."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] | None = None


@dataclass(slots=True)
class Stream:
    """An answer in pieces; when the iterator raises Broken the connection is cut."""

    pieces: AsyncIterator[bytes]
    content_type: str = "text/event-stream; charset=utf-8"


class Broken(Exception):
    """Cut the connection."""


class Cut:
    """No answer at all: the connection is cut."""


Reply = Response | Stream | Cut
Handler = Callable[[Request], Reply | Awaitable[Reply]]


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(status, msgspec.json.encode(value), JSON, headers)


def converted(value: Any, kind: type[T]) -> T:
    """JSON values as a type. Raises HttpError 400, which names the key."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise HttpError(400, str(error)) from error


def _is_deep(body: bytes) -> bool:
    """Whether lists and objects lie too deep in each other. What has few of them is not looked at."""
    if body.count(b"[") + body.count(b"{") <= DEEPEST:
        return False
    depth = 0
    for found in _BRACKETS.finditer(body):
        bracket = found[0]
        if bracket in b"[{":
            depth += 1
            if depth > DEEPEST:
                return True
        elif bracket in b"]}":
            depth -= 1
    return False
