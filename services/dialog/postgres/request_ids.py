"""Changes that happen once per request id: the work and the note of it are one transaction."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import Message

from services.dialog.postgres.database import Database
from services.dialog.postgres.queries import SCHEMA
from services.runtime.idempotency import Requests

if TYPE_CHECKING:
    from services.runtime.postgres import PoolConnection

Response = TypeVar("Response", bound=Message)


class Once:
    """Runs changes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._requests = Requests(SCHEMA)

    async def __call__(
        self,
        request: Message,
        response: type[Response],
        method: str,
        work: "Callable[[PoolConnection], Awaitable[Response]]",
    ) -> Response:
        """What `work` returns, or returned when the request came before. Raises REQUEST_ID_REUSED."""

        async def change(connection: "PoolConnection") -> Response:
            return await self._requests.once(connection, request, response, lambda: work(connection), method=method)

        return await self._database.transaction(change)
