"""Reads the JSON of requests within bounds, and writes that of answers."""

import re
from typing import Any, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

T = TypeVar("T")

LARGEST_BODY = 1 << 20
DEEPEST = 64
"""Lists and objects that may be nested: far fewer than reading and writing them could handle."""
_BRACKETS = re.compile(rb'[\[\]{}]|"(?:[^"\\]|\\.)*"', re.DOTALL)
"""Those of JSON, and strings, in which they mean nothing."""


class Json(Response):
    """An answer in JSON."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return msgspec.json.encode(content)


async def read_body(request: Request) -> bytes:
    """Raises HTTPException 413, and ClientDisconnect when the caller leaves before the end."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST_BODY:
            raise HTTPException(413, "the body is too large")
    return bytes(body)


def decode(body: bytes) -> Any:
    """The JSON values of a body. Raises HTTPException 400."""
    if _is_deep(body):
        raise HTTPException(400, f"the body is too deep: no more than {DEEPEST} lists and objects may be nested")
    try:
        return msgspec.json.decode(body)
    except UnicodeDecodeError as error:
        raise HTTPException(400, f"the body is not UTF-8 (at byte {error.start} of a text in it)") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from error


async def read_command(request: Request, kind: type[T]) -> T:
    """The body of a command. Raises HTTPException: 415 unless its content type is JSON, and 400, which names the key.

    A web page of another origin cannot send that content type without being allowed to.
    """
    body = await read_body(request)
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != "application/json":
        raise HTTPException(415, "send the header `content-type: application/json`")
    return convert(decode(body), kind)


def convert(value: Any, kind: type[T]) -> T:
    """JSON values as a type. Raises HTTPException 400, which names the key."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise HTTPException(400, str(error)) from error


def _is_deep(body: bytes) -> bool:
    """Whether lists and objects are nested too deeply. A body that has few of them is not looked at."""
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
