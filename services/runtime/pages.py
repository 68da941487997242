"""Page tokens: opaque to clients, good for one method with the same filters."""

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence

from services.kernel.errors import FieldViolation, Kind, ParleyError

Position = Sequence[str | int | float | None]
"""Where the next page begins, for example the sort key of the last row."""


def encode(method: str, filters: object, position: Position) -> str:
    """The token of the page after `position`. `filters` is anything with a stable `repr`, such as a tuple."""
    text = json.dumps([_digest(method, filters), *position], ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(token: str, method: str, filters: object) -> list[str | int | float | None] | None:
    """The position in a token; None for the first page. Raises INVALID_PAGE_TOKEN."""
    if not token:
        return None
    try:
        padded = token + "=" * (-len(token) % 4)
        content: list[str | int | float | None] = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        digest, *position = content
    except (binascii.Error, ValueError, TypeError):
        raise _invalid("is not a page token") from None
    if digest != _digest(method, filters):
        raise _invalid("belongs to another method or other filters")
    return position


def _digest(method: str, filters: object) -> str:
    return hashlib.sha256(f"{method}\n{filters!r}".encode()).hexdigest()[:16]


def _invalid(description: str) -> ParleyError:
    return ParleyError(
        Kind.INVALID,
        "INVALID_PAGE_TOKEN",
        f"page_token: {description}; start again without one.",
        (FieldViolation("page_token", description),),
        {"field": "page_token"},
    )
