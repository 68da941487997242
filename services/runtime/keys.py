"""The stack's keys: one for sealing stored secrets, and a pair for each service to sign its tokens.

A folder holds `master.key` and `derive.key` (32 bytes each), `<name>.key` (Ed25519, PEM) and `<name>.pub` (one or more
PEM blocks: while a pair is being replaced, both public keys stand there; `Until: <Unix seconds>` before one says when
it ends). `master.<anything>.key` are older master keys, which open what they have sealed and seal nothing new.
`derived.<purpose>.key` spares a process the key that all purposes are derived from. `revoked.json` names revoked
tokens with their ends. A process needs its own private key, all public ones, the list of what is revoked, and, when it
stores secrets, the master key. `python -m services.runtime.keys DIR` makes what is missing.
"""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from secrets import token_bytes, token_hex
from typing import TypeVar

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from services.runtime.keyfiles import PublicKey, derived_name, format_public, key_id, parse_public, private_pem
from services.runtime.logs import describe, get_logger

T = TypeVar("T")
log = get_logger(__name__)

SERVICES = ("edge", "dialog", "context", "limits", "delivery", "telemetry", "console")
OPERATOR = "operator"
"""Signs the tokens of operators and of tenants' own services."""

ISSUERS = ("operator", "integration")
"""Whom the operator's key may sign for."""

LIFETIME = 300.0
"""Seconds that a service's token is good for."""
RENEWAL = 60.0
"""A token is made anew when it has less than this left, in seconds."""
Time = Callable[[], float]
"""Seconds since 1970."""

LOOK_EVERY = 1.0
"""Seconds after which a folder is looked at again."""
LOOK_AGAIN = 0.05
"""The same for who meets a key that is not known: it may just have been made."""


class KeyMissing(RuntimeError):
    """A key file is not there or not readable."""


class Keys:
    """Reads keys of one folder: each at first use, and again when its file was replaced.

    What cannot be read any more stays as it was read before: a process goes on with the keys that it has.
    """

    def __init__(self, folder: Path, *, clock: Time = time.monotonic) -> None:
        self.folder = folder
        self._clock = clock
        self._version = 0
        self._looked = -math.inf
        self._stamps: dict[str, tuple[int, int]] = {}
        self._read: dict[str, object] = {}
        self._before: dict[str, object] = {}

    @property
    def version(self) -> int:
        """Grows when anything in the folder was added, replaced or taken away."""
        self.look()
        return self._version

    def look(self, oldest: float = LOOK_EVERY) -> None:
        """Look at the folder unless the last look is not older than so many seconds."""
        now = self._clock()
        if now - self._looked < oldest:
            return
        self._looked = now
        stamps = _stamps(self.folder)
        if stamps and stamps != self._stamps:
            self._stamps = stamps
            self._before |= self._read
            self._read = {}
            self._version += 1

    def derive(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose, the same for ever: master keys may change, this must not."""
        derived = self.folder / derived_name(purpose)
        if derived.exists():
            return self._bytes(derived.name)
        return HKDF(SHA256(), 32, salt=None, info=purpose.encode()).derive(self._bytes("derive.key"))

    @property
    def master(self) -> tuple[bytes, ...]:
        """Master keys of 32 bytes, the current one first; the same tuple until one of them changes."""
        return self._kept("master", self._masters)

    def private(self, name: str) -> Ed25519PrivateKey:
        """The signing key of a service, or of the operator. Raises `KeyMissing`."""
        return self._kept(f"{name}.key", lambda: self._private(name))

    def public(self, name: str) -> dict[str, PublicKey]:
        """The public keys of a service by their ids. Raises `KeyMissing`."""
        return self._kept(f"{name}.pub", lambda: parse_public(self._bytes(f"{name}.pub")))

    @property
    def revoked(self) -> frozenset[str]:
        """Ids of tokens that do not hold any more. Raises `KeyMissing` when nobody has said which."""
        return self._kept("revoked.json", lambda: frozenset(json.loads(self._bytes("revoked.json"))))

    def _masters(self) -> tuple[bytes, ...]:
        older = sorted(self.folder.glob("master.*.key"))
        keys = tuple(self._bytes(path.name) for path in (self.folder / "master.key", *older))
        if any(len(key) != 32 for key in keys):
            raise KeyMissing(f"a master key in {self.folder} does not have 32 bytes")
        return keys

    def _private(self, name: str) -> Ed25519PrivateKey:
        key = load_pem_private_key(self._bytes(f"{name}.key"), password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyMissing(f"{name}.key in {self.folder} is not an Ed25519 key")
        return key

    def _kept(self, name: str, read: Callable[[], T]) -> T:
        self.look()
        if name not in self._read:
            try:
                value: object = read()
            except (KeyMissing, ValueError) as error:
                if name not in self._before:
                    raise
                log.error("a key cannot be read any more; the earlier one stays", error=describe(error), alert=True)
                value = self._before[name]
            self._read[name] = self._before[name] if value == self._before.get(name) else value
        return self._read[name]  # type: ignore[return-value]

    def _bytes(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise KeyMissing(
                f"{self.folder / name} cannot be read ({error.strerror}); `python -m services.runtime.keys "
                f"{self.folder}` makes missing keys"
            ) from error


def _stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Which files a folder has, and what tells a replaced one; empty when it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            found = {entry.name: entry.stat() for entry in entries}
            return {name: (status.st_ino, status.st_mtime_ns) for name, status in found.items()}
    except OSError:
        return {}


def ensure_keys(folder: Path) -> Keys:
    """Make every key that is missing, readable by the owner only. Several processes may do so at once."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in ("master.key", "derive.key"):
        _create(folder / name, token_bytes(32))
    _create(folder / "revoked.json", b"{}")
    for name in (*SERVICES, OPERATOR):
        _create(folder / f"{name}.key", private_pem(Ed25519PrivateKey.generate()))
        public = Keys(folder).private(name).public_key()
        _create(folder / f"{name}.pub", format_public([PublicKey(public, math.inf)]))
    return Keys(folder)


def _create(path: Path, content: bytes) -> None:
    """Write a file that is either absent or whole, and never written twice."""
    if path.exists():
        return
    draft = path.with_name(f".{path.name}.{token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        pass  # another process was first, and its key is the one that counts
    finally:
        draft.unlink()


class ServiceTokens:
    """Tokens of one caller; one per audience, reused while it is fresh and its key is the present one."""

    def __init__(self, name: str, keys: Keys, *, tenants: Collection[str] = ("*",), time: Time = time.time) -> None:
        """`name` is a service, `operator` or `integration`. Raises `KeyMissing` when its key is not there."""
        self._name = name
        self._keys = keys
        self._signer = OPERATOR if name in ISSUERS else name
        self._key = keys.private(self._signer)
        self._tenants = tuple(tenants)
        self._time = time
        self._made: dict[str, tuple[float, str]] = {}

    def token(self, audience: str) -> str:
        key = self._keys.private(self._signer)
        if key is not self._key:
            self._key, self._made = key, {}
        expires, token = self._made.get(audience, (0.0, ""))
        now = self._time()
        if expires - now < RENEWAL:
            expires = now + LIFETIME
            token = make_token(key, issuer=self._name, audience=audience, tenants=self._tenants, expires_at=expires)
            self._made[audience] = (expires, token)
        return token


def make_token(
    key: Ed25519PrivateKey,
    *,
    issuer: str,
    audience: str,
    tenants: Collection[str],
    expires_at: float,
    token_id: str = "",
) -> str:
    """A signed token; `expires_at` is in seconds since 1970, `tenants` are ids or `*`, `audience` a service or `*`.

    One that has an id can be revoked by it.
    """
    claims = {"iss": issuer, "aud": audience, "tenants": list(tenants), "exp": int(expires_at)}
    if token_id:
        claims["jti"] = token_id
    return jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": key_id(key.public_key())})


def tokens_of(folder: Path, caller: str, *, tenants: Collection[str] = ("*",)) -> ServiceTokens:
    """Tokens of a service, of `operator` or of `integration`, from the keys in a folder."""
    return ServiceTokens(caller, Keys(folder), tenants=tenants)


if __name__ == "__main__":
    ensure_keys(Path(sys.argv[1]))
