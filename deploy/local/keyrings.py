"""Gives each process a folder with the keys that it needs, and no others.

`keys/` in the home belongs to the stack; `keyrings/<service>/` has copies for one process, whose environment names no
other folder. Files are written in an order in which each works with those before it, so the next start or rotation
finishes one that was interrupted.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from stat import S_IMODE

from services.runtime.keyfiles import derived_name
from services.runtime.keys import OPERATOR, SERVICES, Keys
from services.runtime.rotation import replace_file

SEALS = frozenset({"context", "delivery", "dialog"})
"""The services that store sealed values, and so need the master keys."""
DERIVES: Mapping[str, tuple[str, ...]] = {"context": ("context identities",), "limits": ("limits reservations",)}
"""The purposes for which a service has a derived key."""


def hand_out(keys: Path, keyrings: Path, services: Iterable[str] = SERVICES) -> None:
    """Brings all keyrings up to date. The caller has locked `keys`. Raises `KeyMissing` and `OSError`."""
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
    """Closes a folder and its content to everybody but the owner. A copy or a restored backup may have been open."""
    for path in (top, *top.rglob("*")):
        # Gone meanwhile: a draft. Not ours, or a file system without modes: `doctor` names it.
        with suppress(FileNotFoundError, PermissionError):
            mode = S_IMODE(path.stat().st_mode)
            if mode & 0o077:
                path.chmod(mode & ~0o077)


def contents(keys: Path, service: str) -> dict[str, bytes]:
    """Returns the files of a service's keyring: first the public keys of others, last its own signing key."""
    found = {f"{name}.pub": (keys / f"{name}.pub").read_bytes() for name in (*SERVICES, OPERATOR)}
    found["revoked.json"] = (keys / "revoked.json").read_bytes()
    if service in SEALS:
        for path in (*sorted(keys.glob("master.*.key")), keys / "master.key"):
            found[path.name] = path.read_bytes()
    for purpose in DERIVES.get(service, ()):
        found[derived_name(purpose)] = Keys(keys).derive(purpose)
    found[f"{service}.key"] = (keys / f"{service}.key").read_bytes()
    return found
