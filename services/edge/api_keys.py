"""Whose API key it is, remembered for a short while."""

import asyncio
import hashlib
import time
from collections import OrderedDict

from parley.dialog.v1 import tenant_pb2

from parley_client.dialog import TenantClient
from parley_client.errors import CallError
from services.edge.problems import Problem, from_call_error


class ApiKeys:
    """Checks keys by dialog, and remembers the answer for `seconds` under the key's hash; refusals for a sixth."""

    def __init__(self, client: TenantClient, *, seconds: float = 30.0, entries: int = 1000) -> None:
        self._client = client
        self._seconds = seconds
        self._entries = entries
        self._known: OrderedDict[bytes, tuple[float, tenant_pb2.ApiKey | None]] = OrderedDict()

    async def check(self, key: str, scope: "tenant_pb2.ApiKeyScope.ValueType") -> tenant_pb2.ApiKey:
        """The key's owner. Raises Problem: 401 unknown, 403 scope missing, 503 when nobody can tell."""
        if not key or len(key) > 256:
            raise _refused()
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        now = asyncio.get_running_loop().time()
        until, api_key = self._known.get(digest, (0.0, None))
        if until < now:
            api_key = await self._verify(key)
            self._remember(digest, now, api_key)
        if api_key is None:
            raise _refused()
        if scope not in api_key.scopes:
            raise Problem(403, "SCOPE_MISSING", "This API key is not for chat.")
        return api_key

    async def _verify(self, key: str) -> tenant_pb2.ApiKey | None:
        try:
            answer = await self._client.verify_api_key(tenant_pb2.VerifyApiKeyRequest(key=key), timeout=3.0)
        except CallError as error:
            if error.reason in ("INVALID_API_KEY", "INVALID_FIELD"):
                return None
            raise from_call_error(error) from None
        return answer.api_key

    def _remember(self, digest: bytes, now: float, api_key: tenant_pb2.ApiKey | None) -> None:
        seconds = self._seconds if api_key is not None else self._seconds / 6
        if api_key is not None and api_key.HasField("expires_at"):
            seconds = min(seconds, api_key.expires_at.ToSeconds() - time.time())
        self._known[digest] = (now + seconds, api_key)
        self._known.move_to_end(digest)
        while len(self._known) > self._entries:
            self._known.popitem(last=False)


def _refused() -> Problem:
    return Problem(401, "INVALID_API_KEY", "The API key is missing or not valid; send it in the header X-API-KEY.")
