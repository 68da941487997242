"""Errors as HTTP clients expect them: `application/problem+json` (RFC 9457), with `reason` and `field`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from starlette.responses import Response

from parley_client import errors


@dataclass(eq=False)
class Problem(Exception):
    """An answer that is an error. `retry_after` is in seconds; `extra` adds members to the document."""

    status: int
    reason: str
    detail: str
    field: str = ""
    retry_after: float | None = None
    extra: Mapping[str, str] | None = None

    @property
    def title(self) -> str:
        """The status in words."""
        return TITLES.get(self.status, "Error")

    def document(self) -> dict[str, object]:
        """The JSON document."""
        body: dict[str, object] = {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "reason": self.reason,
            "detail": self.detail,
        }
        if self.field:
            body["field"] = self.field
        if self.extra:
            body.update(self.extra)
        return body

    def response(self) -> Response:
        """Makes the response, with `Retry-After` in whole seconds, rounded up."""
        headers = {}
        if self.retry_after is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after)))
        return Response(msgspec.json.encode(self.document()), self.status, headers, "application/problem+json")


TITLES = {
    400: "Bad request",
    401: "Not authenticated",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "Too slow",
    409: "Conflict",
    413: "Too large",
    422: "Invalid field",
    429: "Limit exceeded",
    431: "Headers too large",
    500: "Internal error",
    502: "The model failed",
    503: "Not available",
    504: "Timed out",
}

BY_REASON = {
    "INVALID_API_KEY": 401,
    "SCOPE_MISSING": 403,
    "CHANNEL_NOT_FOUND": 404,
    "BOT_NOT_FOUND": 404,
    "REQUEST_ID_REUSED": 409,
    "BOT_DISABLED": 409,
    "CHANNEL_DISABLED": 409,
    "TOO_LARGE": 413,
    "INVALID_FIELD": 422,
    "LIMIT_EXCEEDED": 429,
    "OVERLOADED": 503,
    "STORAGE_UNAVAILABLE": 503,
    "DRAINING": 503,
    "MODEL_UNAVAILABLE": 502,
    "MODEL_REJECTED": 502,
    "BUDGET_EXCEEDED": 502,
    "MODEL_TIMEOUT": 504,
    "STILL_WORKING": 504,
}
"""The HTTP status for each reason that a service may give."""


def from_call_error(error: errors.CallError) -> Problem:
    """Translates a failed call. A failure that the caller can do nothing about becomes a 500 without details."""
    extra = {key: error.metadata[key] for key in ("message_id", "rule_id") if key in error.metadata}
    status = BY_REASON.get(error.reason)
    if status is not None:
        field = error.fields[0][0] if error.fields else ""
        retry_after = error.retry_after if error.retry_after is not None else (1.0 if status == 503 else None)
        return Problem(status, error.reason, error.message, field, retry_after, extra)
    if isinstance(error, errors.Unavailable | errors.DeadlineExceeded):
        return Problem(503, "STORAGE_UNAVAILABLE", "A service behind the edge is not available.", retry_after=1.0)
    return Problem(500, "INTERNAL", "Something went wrong on our side; the log has the trace id.")
