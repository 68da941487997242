"""The order of the interceptors is part of what servers promise."""

from pathlib import Path

from services.runtime.interceptors.auth import Auth, Identity
from services.runtime.interceptors.deadline import Deadline
from services.runtime.interceptors.defaults import interceptors
from services.runtime.interceptors.errors import Errors
from services.runtime.interceptors.sizes import Sizes
from services.runtime.interceptors.streams import Streams
from services.runtime.interceptors.tracing import Tracing
from services.runtime.interceptors.validation import Validation
from services.runtime.keys import Keys
from services.runtime.pages import Signer
from services.runtime.verifier import Verifier


def test_interceptors_stand_in_their_order(keys_dir: Path) -> None:
    """Who calls is known before a span is made; who may not call is refused where that becomes a status."""
    keys = Keys(keys_dir)
    chain = interceptors({}, Verifier(keys, "limits"), Signer(keys, "limits"), Streams({}), 10)
    assert [type(each) for each in chain] == [Identity, Tracing, Errors, Deadline, Auth, Sizes, Validation, Streams]
