"""Checks API keys, and remembers the answers for a short while."""

import asyncio
import hashlib
import time

from cachetools import LRUCache, TLRUCache, TTLCache

from parley.dialog.v1 import tenant_pb2

from parley_client.dialog import TenantClient
from parley_client.errors import CallError
from services.edge.failure_limit import FailureLimit
from services.edge.problems import Problem, from_call_error

PROVEN = 10_000
"""Hashes of keys that were good before: these are looked up even when their address has failed too often."""


class ApiKeys:
    """Asks dialog whose a key is. An answer is remembered under the key's hash for `seconds`, a refusal for a sixth.

    Refusals have a memory of their own, so strangers cannot push out known keys. Calls with the same new key at the
    same time ask once.
    """

    def __init__(
        self, client: TenantClient, failures: FailureLimit, *, seconds: float = 30.0, entries: int = 1000
    ) -> None:
        self._client = client
        self._failures = failures
        self._seconds = seconds
        self._good: TLRUCache[bytes, tenant_pb2.ApiKey] = TLRUCache(entries, self._known_until, time.monotonic)
        self._bad: TTLCache[bytes, bool] = TTLCache(entries, seconds / 6, time.monotonic)
        self._proven: LRUCache[bytes, bool] = LRUCache(PROVEN)
        self._asked: dict[bytes, asyncio.Task[tenant_pb2.ApiKey | None]] = {}

    async def check(self, key: str, scope: "tenant_pb2.ApiKeyScope.ValueType", address: str = "") -> tenant_pb2.ApiKey:
        """Returns whose key it is. Raises Problem: 401 unknown, 403 scope missing, 429 guessing, 503 dialog is away."""
        api_key = await self._find(key, address)
        if api_key is None:
            raise self._failures.failed(address, "api_key", _refused())
        if scope not in api_key.scopes:
            raise Problem(403, "SCOPE_MISSING", "This API key is not for chat.")
        return api_key

    async def _find(self, key: str, address: str) -> tenant_pb2.ApiKey | None:
        if not key or len(key) > 256:
            return None
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        known = self._good.get(digest)
        if known is not None or digest in self._bad:
            return known
        if digest in self._proven or digest in self._asked:
            return await self._ask(digest, key)
        with self._failures.looking_up(address):
            return await self._ask(digest, key)

    async def _ask(self, digest: bytes, key: str) -> tenant_pb2.ApiKey | None:
        task = self._asked.get(digest)
        if task is None:
            task = self._asked[digest] = asyncio.create_task(self._verify(digest, key))
            task.add_done_callback(lambda done: self._forget(digest, done))
        return await asyncio.shield(task)

    def _forget(self, digest: bytes, done: "asyncio.Task[tenant_pb2.ApiKey | None]") -> None:
        del self._asked[digest]
        if not done.cancelled():
            done.exception()  # callers who are still waiting get it; there may be none

    async def _verify(self, digest: bytes, key: str) -> tenant_pb2.ApiKey | None:
        try:
            answer = await self._client.verify_api_key(tenant_pb2.VerifyApiKeyRequest(key=key), timeout=3.0)
        except CallError as error:
            if error.reason not in ("INVALID_API_KEY", "INVALID_FIELD"):
                raise from_call_error(error) from None
            self._good.pop(digest, None)
            self._proven.pop(digest, None)
            self._bad[digest] = True
            return None
        self._good[digest] = answer.api_key
        self._proven[digest] = True
        return answer.api_key

    def _known_until(self, _: bytes, api_key: tenant_pb2.ApiKey, now: float) -> float:
        """When dialog is asked again: after `seconds`, or when the key expires."""
        left = api_key.expires_at.ToSeconds() - time.time() if api_key.HasField("expires_at") else self._seconds
        return now + min(self._seconds, left)


def _refused() -> Problem:
    return Problem(401, "INVALID_API_KEY", "The API key is missing or not valid; send it in the header X-API-KEY.")
