"""The stack's keys: one for sealing stored secrets, and a pair for each service to sign its tokens.

A folder holds `master.key` and `derive.key` (32 bytes each), `<name>.key` (Ed25519, PEM) and `<name>.pub` (one or more
PEM blocks: while a pair is being replaced, both public keys stand there). `master.<anything>.key` are older master
keys, which open what they have sealed and seal nothing new. A process needs its own private key, all public ones, and,
when it stores secrets, the master key. `python -m services.runtime.keys DIR` makes what is missing.
"""

import hashlib
import os
import sys
import time
from collections.abc import Callable, Collection
from functools import cached_property
from pathlib import Path
from secrets import token_bytes, token_hex

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

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

_PEM_END = b"-----END PUBLIC KEY-----\n"


class KeyMissing(RuntimeError):
    """A key file is not there or not readable."""


class Keys:
    """Reads keys of one folder; each at first use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._private: dict[str, Ed25519PrivateKey] = {}
        self._public: dict[str, dict[str, Ed25519PublicKey]] = {}

    def derive(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose, the same for ever: master keys may change, this must not."""
        return HKDF(SHA256(), 32, salt=None, info=purpose.encode()).derive(self._read("derive.key"))

    @cached_property
    def master(self) -> tuple[bytes, ...]:
        """Master keys of 32 bytes, the current one first."""
        older = sorted(self.folder.glob("master.*.key"))
        keys = tuple(self._read(path.name) for path in (self.folder / "master.key", *older))
        if any(len(key) != 32 for key in keys):
            raise KeyMissing(f"a master key in {self.folder} does not have 32 bytes")
        return keys

    def private(self, name: str) -> Ed25519PrivateKey:
        """The signing key of a service, or of the operator. Raises `KeyMissing`."""
        if name not in self._private:
            key = load_pem_private_key(self._read(f"{name}.key"), password=None)
            if not isinstance(key, Ed25519PrivateKey):
                raise KeyMissing(f"{name}.key in {self.folder} is not an Ed25519 key")
            self._private[name] = key
        return self._private[name]

    def public(self, name: str) -> dict[str, Ed25519PublicKey]:
        """The public keys of a service by their ids. Raises `KeyMissing`."""
        if name not in self._public:
            blocks = self._read(f"{name}.pub").split(_PEM_END)
            keys = [load_pem_public_key(block + _PEM_END) for block in blocks if block.strip()]
            self._public[name] = {key_id(key): key for key in keys if isinstance(key, Ed25519PublicKey)}
        return self._public[name]

    def _read(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise KeyMissing(
                f"{self.folder / name} cannot be read ({error.strerror}); `python -m services.runtime.keys "
                f"{self.folder}` makes missing keys"
            ) from error


def key_id(key: Ed25519PublicKey) -> str:
    """Names a public key: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def ensure_keys(folder: Path) -> Keys:
    """Make every key that is missing, readable by the owner only. Several processes may do so at once."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in ("master.key", "derive.key"):
        _create(folder / name, token_bytes(32))
    for name in (*SERVICES, OPERATOR):
        private = Ed25519PrivateKey.generate()
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        _create(folder / f"{name}.key", pem)
        public = Keys(folder).private(name).public_key()
        _create(folder / f"{name}.pub", public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
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
    """Tokens of one caller; one per audience, reused while it is fresh."""

    def __init__(
        self,
        name: str,
        private_key: Ed25519PrivateKey,
        *,
        tenants: Collection[str] = ("*",),
        time: Time = time.time,
    ) -> None:
        self._name = name
        self._key = private_key
        self._tenants = tuple(tenants)
        self._time = time
        self._made: dict[str, tuple[float, str]] = {}

    def token(self, audience: str) -> str:
        expires, token = self._made.get(audience, (0.0, ""))
        now = self._time()
        if expires - now < RENEWAL:
            expires = now + LIFETIME
            token = make_token(
                self._key, issuer=self._name, audience=audience, tenants=self._tenants, expires_at=expires
            )
            self._made[audience] = (expires, token)
        return token


def make_token(
    key: Ed25519PrivateKey, *, issuer: str, audience: str, tenants: Collection[str], expires_at: float
) -> str:
    """A signed token; `expires_at` is in seconds since 1970, `tenants` are ids or `*`, `audience` a service or `*`."""
    claims = {"iss": issuer, "aud": audience, "tenants": list(tenants), "exp": int(expires_at)}
    return jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": key_id(key.public_key())})


def tokens_of(folder: Path, caller: str, *, tenants: Collection[str] = ("*",)) -> ServiceTokens:
    """Tokens of a service, of `operator` or of `integration`, from the keys in a folder."""
    signer = OPERATOR if caller in ISSUERS else caller
    return ServiceTokens(caller, Keys(folder).private(signer), tenants=tenants)


if __name__ == "__main__":
    ensure_keys(Path(sys.argv[1]))
