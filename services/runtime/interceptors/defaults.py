"""The interceptors of every server, in their order."""

from collections.abc import Mapping

from services.runtime.interceptors.auth import Auth, Identity
from services.runtime.interceptors.base import Interceptor
from services.runtime.interceptors.deadline import Deadline
from services.runtime.interceptors.errors import Errors
from services.runtime.interceptors.sizes import Sizes
from services.runtime.interceptors.streams import Streams
from services.runtime.interceptors.tracing import Tracing
from services.runtime.interceptors.validation import Validation
from services.runtime.methods import Method
from services.runtime.pages import Signer
from services.runtime.verifier import Verifier


def interceptors(
    methods: Mapping[str, Method], verifier: Verifier, signer: Signer, streams: Streams, default_deadline: float
) -> list[Interceptor]:
    """The first is outermost. Identity comes before all, so that nobody unknown writes into a trace; tracing sees every
    status, errors makes statuses of what the rest raises, the deadline bounds even the checks, and nothing of a request
    is looked at before its caller is known and may call.
    """
    return [
        Identity(methods, verifier),
        Tracing(methods),
        Errors(methods),
        Deadline(methods, default_deadline),
        Auth(methods),
        Sizes(methods),
        Validation(methods, signer),
        streams,
    ]
