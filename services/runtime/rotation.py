"""Replaces keys of a folder, in steps of which each leaves keys that work together, whatever comes after it.

`spread` brings what has changed to the processes that have copies; it is called before the next step relies on it.
"""

import fcntl
import hashlib
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_bytes, token_hex

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.runtime.keyfiles import PublicKey, format_public, private_pem
from services.runtime.keys import LIFETIME, OPERATOR, SERVICES, Keys, Time

MASTER = "master"
ROTATABLE = (*SERVICES, OPERATOR, MASTER)

OLD_KEPT = LIFETIME + 60.0
"""Seconds for which the old public key of a service stays: so long its last tokens live."""


def rotate_pair(
    folder: Path, name: str, *, spread: Callable[[], None], keep: float = OLD_KEPT, time: Time = time.time
) -> None:
    """Give a service, or the operator, a new pair. Tokens of the old one are good for `keep` seconds more;
    for none with 0.

    The new public key is known everywhere before anything is signed with it. The old one gets its end only once
    nothing new is signed with it; a rotation that was cut short before that is finished by the next.
    """
    with locked(folder):
        path = folder / f"{name}.pub"
        keys = Keys(folder)
        new = Ed25519PrivateKey.generate()
        now = time()
        known = [key for key in keys.public(name).values() if key.until > now]
        replace_file(path, format_public([PublicKey(new.public_key(), math.inf), *known]))
        spread()
        replace_file(folder / f"{name}.key", private_pem(new))
        spread()
        # With what an earlier rotation has left without an end.
        kept = [PublicKey(key, min(until, now + keep)) for key, until in known] if keep > 0 else []
        replace_file(path, format_public([PublicKey(new.public_key(), math.inf), *kept]))
        spread()


def rotate_master(folder: Path, *, spread: Callable[[], None]) -> None:
    """Seal with a new master key from now on. The old one stays, to open what it has sealed."""
    with locked(folder):
        old = (folder / "master.key").read_bytes()
        replace_file(folder / f"master.{hashlib.sha256(old).hexdigest()[:12]}.key", old)
        spread()
        replace_file(folder / "master.key", token_bytes(32))
        spread()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One change of the keys at a time."""
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file in one step, on the disk before it counts, readable by its owner only."""
    draft = path.with_name(f".{path.name}.{token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
