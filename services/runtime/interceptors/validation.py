"""Refuses requests that name a tenant that is not the caller's, or break a rule."""

from collections.abc import Mapping
from typing import Any

from services.runtime import pages
from services.runtime.auth import caller, tenant_not_allowed
from services.runtime.interceptors.base import Context, Interceptor, Proceed
from services.runtime.methods import Method
from services.runtime.validation import check


class Validation(Interceptor):
    """Checks the tenant, then the rules of the contract. A batch's items are left to `run_items`, page tokens to the
    method, which knows its filters."""

    def __init__(self, methods: Mapping[str, Method], signer: pages.Signer) -> None:
        super().__init__(methods)
        self._signer = signer

    async def around(self, method: Method, request: Any, context: Context, proceed: Proceed) -> Any:
        if hasattr(request, "DESCRIPTOR"):  # neither bytes nor a stream of requests
            if method.has_tenant and not caller().allows(request.tenant_id):
                raise tenant_not_allowed(request.tenant_id)
            invalid = check(request)
            if invalid is not None:
                raise invalid
        pages.use(self._signer)
        return await proceed(request, context)
