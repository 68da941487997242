"""Finds out who calls, and whether they may."""

from collections.abc import Mapping
from typing import Any

from services.kernel.errors import Kind, ParleyError
from services.runtime.auth import caller, set_caller
from services.runtime.interceptors.base import Context, Interceptor, Proceed
from services.runtime.methods import Method
from services.runtime.verifier import Verifier, invalid_token

_BEARER = "bearer "


class Identity(Interceptor):
    """Finds out who calls, by the token for this service in `authorization`. Refuses nobody: what comes next must know
    whom it deals with, also to tell of those who are refused."""

    def __init__(self, methods: Mapping[str, Method], verifier: Verifier) -> None:
        super().__init__(methods)
        self._verifier = verifier

    async def around(self, method: Method, request: Any, context: Context, proceed: Proceed) -> Any:
        try:
            set_caller(self._verifier.verify(bearer(context)))
        except Exception as error:
            set_caller(error)  # `Auth` raises it, where it becomes a status
        return await proceed(request, context)


class Auth(Interceptor):
    """Wants a caller whom the method's access option names."""

    async def around(self, method: Method, request: Any, context: Context, proceed: Proceed) -> Any:
        who = caller()
        if who.name not in method.callers:
            message = f"{who.name} may not call {method.name}."
            metadata = {"method": method.name, "caller": who.name}
            raise ParleyError(Kind.DENIED, "METHOD_NOT_ALLOWED", message, metadata=metadata)
        return await proceed(request, context)


def bearer(context: Context) -> str:
    """The token that a call carries. Raises INVALID_TOKEN when there is none."""
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str) and value[: len(_BEARER)].lower() == _BEARER:
            return value[len(_BEARER) :]
    raise invalid_token("The call has no token.")
