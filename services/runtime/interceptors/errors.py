"""Turns failures into statuses with details."""

from typing import Any

from services.kernel.errors import ParleyError
from services.runtime.errors import DETAILS_KEY, status_code, to_parley_error, to_status
from services.runtime.interceptors.base import Context, Interceptor, Proceed
from services.runtime.logs import get_logger
from services.runtime.methods import Method

log = get_logger(__name__)


class Errors(Interceptor):
    """Every failure leaves as the status of a ParleyError; what nobody foresaw is logged and leaves as INTERNAL."""

    async def around(self, method: Method, request: Any, context: Context, proceed: Proceed) -> Any:
        try:
            return await proceed(request, context)
        except ParleyError as error:
            failure = error
        except Exception as error:
            if is_abort(error):
                raise
            failure = to_parley_error(error)
            tell = log.error if failure.reason == "INTERNAL" else log.warning
            tell("call failed", method=method.name, reason=failure.reason, exc_info=error)
        status = to_status(failure)
        details = status.SerializeToString()
        return await context.abort(status_code(failure.kind), status.message, ((DETAILS_KEY, details),))


def is_abort(error: BaseException) -> bool:
    """Whether a handler has called `context.abort` itself; grpc keeps that exception's class to itself."""
    return type(error).__name__ == "AbortError" and type(error).__module__.startswith("grpc")
