"""Makes a mutation happen once per request id, inside its own transaction. For the calls that operators make; what is
hot has a cheaper way of its own.
"""

import hashlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from google.protobuf.message import Message

from services.kernel.errors import Kind, ParleyError
from services.runtime.postgres import Connection, Pool, PoolConnection

Response = TypeVar("Response", bound=Message)

KEPT = timedelta(hours=24)
"""How long a request id is remembered."""


def requests_table(schema: str) -> str:
    """The table, for a migration of the service."""
    return f"""\
CREATE TABLE {schema}.requests (
    tenant_id text NOT NULL,
    request_id text NOT NULL,
    method text NOT NULL,
    digest bytea NOT NULL,
    response bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, request_id)
);
"""


class Requests:
    """The request ids that a service has seen, in `<schema>.requests`."""

    def __init__(self, schema: str) -> None:
        self._schema = schema

    async def once(
        self,
        connection: "Connection | PoolConnection",
        request: Message,
        response: type[Response],
        work: Callable[[], Awaitable[Response]],
        *,
        method: str,
    ) -> Response:
        """Do `work`, or return what it returned when this request came before.

        Call it in a transaction, and do the work on that connection: both commit together, and when the work fails the
        id is free again. A second call with the same id waits for the first. Raises REQUEST_ID_REUSED when the id came
        with another body. The request has `tenant_id` and `request_id`.
        """
        assert connection.is_in_transaction()
        tenant_id, request_id = str(getattr(request, "tenant_id", "")), str(getattr(request, "request_id", ""))
        digest = digest_of(method, request)
        new = await connection.fetchval(
            f"INSERT INTO {self._schema}.requests (tenant_id, request_id, method, digest) VALUES ($1, $2, $3, $4)"  # noqa: S608
            " ON CONFLICT DO NOTHING RETURNING true",
            tenant_id,
            request_id,
            method,
            digest,
        )
        if not new:
            return await self._replay(connection, tenant_id, request_id, digest, response)
        result = await work()
        await connection.execute(
            f"UPDATE {self._schema}.requests SET response = $3 WHERE tenant_id = $1 AND request_id = $2",  # noqa: S608
            tenant_id,
            request_id,
            result.SerializeToString(),
        )
        return result

    async def tidy(self, pool: Pool) -> int:
        """Forget old request ids; how many. Call it now and then."""
        sql = f"DELETE FROM {self._schema}.requests WHERE created_at < now() - $1::interval"  # noqa: S608
        status = await pool.execute(sql, KEPT)
        return int(status.split()[-1])

    async def _replay(
        self,
        connection: "Connection | PoolConnection",
        tenant_id: str,
        request_id: str,
        digest: bytes,
        response: type[Response],
    ) -> Response:
        row = await connection.fetchrow(
            f"SELECT digest, response FROM {self._schema}.requests WHERE tenant_id = $1 AND request_id = $2",  # noqa: S608
            tenant_id,
            request_id,
        )
        assert row is not None, "ON CONFLICT has waited for the row's commit"
        if row["digest"] != digest:
            message = f"The request id {request_id!r} was used before with another request; choose a new one."
            raise ParleyError(Kind.EXISTS, "REQUEST_ID_REUSED", message, metadata={"request_id": request_id})
        return response.FromString(row["response"])


def digest_of(method: str, request: Message) -> bytes:
    """Tells two requests apart."""
    body = request.SerializeToString(deterministic=True)
    return hashlib.sha256(method.encode() + b"\n" + body).digest()[:16]
