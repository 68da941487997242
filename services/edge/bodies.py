"""Reads bodies, within bounds for each and for all that are arriving together."""

from starlette.types import Receive, Scope

from services.edge.problems import Problem

CLIENT_GONE = 499
"""The status that the span of a request has when its caller went away. It is never sent."""
_NO_JSON = (b"multipart/", b"image/", b"audio/", b"video/")


class Bodies:
    """Reads bodies of at most `most` bytes, and holds at most `memory` bytes of those that are still arriving."""

    def __init__(self, most: int, memory: int) -> None:
        self._most = most
        self._memory = memory
        self._held = 0

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """Returns the whole body.

        Raises Problem: 413 when it is too long and 422 when its content type is not JSON, both before reading where the
        headers tell; 503 when too many bodies arrive at once; 499, which nobody sees, when the caller goes away.
        """
        self._check(scope)
        pieces: list[bytes] = []
        size = 0
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Problem(CLIENT_GONE, "CLIENT_GONE", "The caller went away.")
                piece: bytes = message.get("body", b"")
                pieces.append(piece)
                size += len(piece)
                self._held += len(piece)
                if size > self._most:
                    raise self._too_large()
                if not message.get("more_body"):
                    return piece if len(pieces) == 1 else b"".join(pieces)
                if self._held > self._memory:
                    detail = "Too many large bodies are arriving at once; send it again."
                    raise Problem(503, "OVERLOADED", detail, retry_after=1.0)
        finally:
            self._held -= size

    def _check(self, scope: Scope) -> None:
        for name, value in scope["headers"]:
            if name == b"content-length" and int(value) > self._most:
                raise self._too_large()
            if name == b"content-type" and value.lower().startswith(_NO_JSON):
                raise Problem(422, "INVALID_FIELD", "Content-Type: the body must be JSON", "Content-Type")

    def _too_large(self) -> Problem:
        detail = f"The body is larger than {self._most:,} bytes."
        return Problem(413, "TOO_LARGE", detail, extra={"limit_bytes": str(self._most)})
