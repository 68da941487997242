"""Lists that come page by page."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any


async def pages(call: Callable[[Any], Awaitable[Any]], request: Any) -> AsyncIterator[Any]:
    """All pages of a list, from the one that the request names."""
    while True:
        page = await call(request)
        yield page
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token
