"""Refuses requests that are larger than their method takes, before they are read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from services.kernel.errors import FieldViolation, Kind, ParleyError
from services.runtime.interceptors.base import Context, Interceptor, Proceed
from services.runtime.methods import Method


@dataclass(frozen=True, slots=True)
class Unread:
    """Stands for a request that was not read, with the reason."""

    error: ParleyError


class Sizes(Interceptor):
    """Looks at the length of a request where it is still bytes. What is refused is told only to who may call."""

    async def around(self, method: Method, request: Any, context: Context, proceed: Proceed) -> Any:
        if isinstance(request, Unread):
            raise request.error
        return await proceed(request, context)

    def reader(self, method: Method, read: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
        most = method.max_request_bytes

        def guarded(raw: bytes) -> Any:
            if len(raw) > most:
                return Unread(too_large(len(raw), most))
            try:
                return read(raw) if read is not None else raw
            except DecodeError:
                return Unread(_unreadable())

        return guarded


def too_large(size: int, most: int) -> ParleyError:
    """TOO_LARGE for a request of so many bytes."""
    message = f"The request has {size:,} bytes; this method takes {most:,}."
    return ParleyError(Kind.INVALID, "TOO_LARGE", message, metadata={"limit_bytes": str(most)})


def _unreadable() -> ParleyError:
    why = "is not the message that this method takes"
    return ParleyError(
        Kind.INVALID, "INVALID_FIELD", f"The request {why}.", (FieldViolation("request", why),), {"field": "request"}
    )
