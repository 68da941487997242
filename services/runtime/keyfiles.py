"""How keys are written in files: PEM, and for a public key when it ends."""

import hashlib
import math
from collections.abc import Iterable
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)

_PEM_BEGIN = b"-----BEGIN PUBLIC KEY-----\n"
_PEM_END = b"-----END PUBLIC KEY-----\n"
_UNTIL = b"Until: "


class PublicKey(NamedTuple):
    """A key that verifies, and until when: Unix seconds."""

    key: Ed25519PublicKey
    until: float


def key_id(key: Ed25519PublicKey) -> str:
    """Names a public key: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def private_pem(key: Ed25519PrivateKey) -> bytes:
    """The `.key` file of a signing key."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def parse_public(pem: bytes) -> dict[str, PublicKey]:
    """The keys of a `.pub` file by their ids."""
    found = {}
    for block in pem.split(_PEM_END):
        note, begin, body = block.partition(_PEM_BEGIN)
        if begin:
            key = load_pem_public_key(begin + body + _PEM_END)
            if isinstance(key, Ed25519PublicKey):
                until = note.strip().removeprefix(_UNTIL.strip())
                found[key_id(key)] = PublicKey(key, float(until) if until else math.inf)
    return found


def format_public(keys: Iterable[PublicKey]) -> bytes:
    """The `.pub` file of some keys."""
    blocks = []
    for key, until in keys:
        note = b"" if until == math.inf else _UNTIL + b"%d\n" % int(until)
        blocks.append(note + key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return b"".join(blocks)


def derived_name(purpose: str) -> str:
    """The file of a key that was derived for a process beforehand."""
    return f"derived.{purpose.replace(' ', '-')}.key"
