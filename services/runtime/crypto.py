"""Seals what is secret before it is stored."""

import hashlib
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.runtime.keys import LOOK_AGAIN, Keys

_VERSION = b"\x01"
_KEY_ID = 4
_NONCE = 12
_HEADER = len(_VERSION) + _KEY_ID + _NONCE
_TAG = 16


class CannotOpen(ValueError):
    """The sealed bytes were changed, moved to another place, or sealed with a key that is not known."""


class Sealer:
    """AES-256-GCM under the master key.

    Sealed bytes are: version (1), key id (4), nonce (12), ciphertext with tag. `bound_to` says where they belong, for
    example `delivery/channel/<tenant>/<id>/token`; they open there and nowhere else. New bytes are sealed with the
    current key; older keys still open what they have sealed. Replaced keys are noticed within a second.
    """

    def __init__(self, keys: Keys) -> None:
        self._source = keys
        self._masters: tuple[bytes, ...] = ()
        self._keys: dict[bytes, AESGCM] = {}
        self._current = b""
        self._take_keys()

    def seal(self, plaintext: bytes, *, bound_to: str) -> bytes:
        self._take_keys()
        nonce = os.urandom(_NONCE)
        sealed = self._keys[self._current].encrypt(nonce, plaintext, bound_to.encode())
        return _VERSION + self._current + nonce + sealed

    def open(self, sealed: bytes, *, bound_to: str) -> bytes:
        """The plaintext. Raises `CannotOpen`."""
        key = self._keys.get(sealed[1 : 1 + _KEY_ID])
        if key is None:  # another process may have a newer one
            self._source.look(LOOK_AGAIN)
            self._take_keys()
            key = self._keys.get(sealed[1 : 1 + _KEY_ID])
        if sealed[:1] != _VERSION or key is None or len(sealed) < _HEADER + _TAG:
            raise CannotOpen("not sealed with a known key")
        try:
            return key.decrypt(sealed[1 + _KEY_ID : _HEADER], sealed[_HEADER:], bound_to.encode())
        except InvalidTag:
            raise CannotOpen(f"not sealed for {bound_to}") from None

    @property
    def current_id(self) -> bytes:
        """Bytes 2 to 5 of all that the current key seals: what has others there is to be sealed again."""
        self._take_keys()
        return self._current

    def _take_keys(self) -> None:
        masters = self._source.master
        if masters is not self._masters:
            self._keys = {_key_id(key): AESGCM(key) for key in reversed(masters)}
            self._current = _key_id(masters[0])
            self._masters = masters


def is_sealed(stored: bytes) -> bool:
    """Whether bytes begin as sealed ones do, to tell them from rows that an older version has stored in clear."""
    return stored[:1] == _VERSION


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"parley master key id:" + key).digest()[:_KEY_ID]
