"""What each process gets of the keys: a folder of its own, with its signing key and what it seals and derives with.

`keys/` in the home is the stack's; `keyrings/<service>/` holds copies for one process, whose environment names no other
folder. Files are written in an order in which each works with those before it, so a start or a rotation that was cut
short is finished by the next.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from stat import S_IMODE

from services.runtime.keyfiles import derived_name
from services.runtime.keys import OPERATOR, SERVICES, Keys
from services.runtime.rotation import replace_file

SEALS = frozenset({"context", "delivery", "dialog"})
"""Who stores sealed values, and so needs the master keys."""
DERIVES: Mapping[str, tuple[str, ...]] = {"context": ("context identities",), "limits": ("limits reservations",)}
"""Purposes for which a service has a derived key."""


def hand_out(keys: Path, keyrings: Path, services: Iterable[str] = SERVICES) -> None:
    """Bring all keyrings up to date. The caller has locked `keys`. Raises `KeyMissing` and `OSError`."""
    keyrings.mkdir(exist_ok=True, mode=0o700)
    for service in services:
        ring = keyrings / service
        ring.mkdir(exist_ok=True, mode=0o700)
        wanted = contents(keys, service)
        for name, content in wanted.items():
            path = ring / name
            if not path.exists() or path.read_bytes() != content:
                replace_file(path, content)
        for path in ring.iterdir():
            if path.name not in wanted:
                path.unlink()
    for top in (keys, keyrings):
        close_to_others(top)


def close_to_others(top: Path) -> None:
    """Let nobody but their owner read a folder and what is in it: a copy or a restored backup may have other modes."""
    for path in (top, *top.rglob("*")):
        # Gone meanwhile: a draft. Not ours, or a file system without modes: `doctor` names it.
        with suppress(FileNotFoundError, PermissionError):
            mode = S_IMODE(path.stat().st_mode)
            if mode & 0o077:
                path.chmod(mode & ~0o077)


def contents(keys: Path, service: str) -> dict[str, bytes]:
    """The files of a service's keyring: what others have signed first, what it signs with itself last."""
    found = {f"{name}.pub": (keys / f"{name}.pub").read_bytes() for name in (*SERVICES, OPERATOR)}
    found["revoked.json"] = (keys / "revoked.json").read_bytes()
    if service in SEALS:
        for path in (*sorted(keys.glob("master.*.key")), keys / "master.key"):
            found[path.name] = path.read_bytes()
    for purpose in DERIVES.get(service, ()):
        found[derived_name(purpose)] = Keys(keys).derive(purpose)
    found[f"{service}.key"] = (keys / f"{service}.key").read_bytes()
    return found
