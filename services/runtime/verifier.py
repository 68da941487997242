"""Verifies the tokens that callers show: JWTs signed with Ed25519."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cachetools import LRUCache

from services.kernel.errors import Kind, ParleyError
from services.runtime.auth import ALL, Caller
from services.runtime.keyfiles import PublicKey
from services.runtime.keys import ISSUERS, LOOK_AGAIN, OPERATOR, SERVICES, KeyMissing, Keys, Time

LEEWAY = 10.0
"""Seconds by which clocks may differ."""

LONGEST = 90 * 86_400.0
"""Seconds for which an operator's or a tenant's token may hold."""
LONGEST_UNNAMED = 86_400.0
"""The same for one without an id, which cannot be revoked."""

_REMEMBERED = 1024


@dataclass(frozen=True)
class _Verified:
    caller: Caller
    expires_at: float


class Verifier:
    """Verifies tokens that are meant for one audience. A token seen before costs a look-up.

    Replaced keys and revoked tokens are noticed within a second.
    """

    def __init__(self, keys: Keys, audience: str, *, time: Time = time.time) -> None:
        self._keys = keys
        self._audience = audience
        self._time = time
        self._seen: LRUCache[str, _Verified] = LRUCache(_REMEMBERED)
        self._version = keys.version

    def verify(self, token: str) -> Caller:
        """Who shows the token. Raises INVALID_TOKEN."""
        if self._keys.version != self._version:
            self._version = self._keys.version
            self._seen.clear()
        verified = self._seen.get(token)
        if verified is None:
            verified = self._seen[token] = self._decode(token)
        if verified.expires_at + LEEWAY < self._time():
            self._seen.pop(token, None)
            raise invalid_token("The token has expired.")
        return verified.caller

    def _decode(self, token: str) -> _Verified:
        try:
            # Not to be trusted yet: it only says with whose key to check.
            unverified = jwt.decode(token, options={"verify_signature": False})
            issuer = unverified.get("iss", "")
            if issuer not in SERVICES and issuer not in ISSUERS:
                raise invalid_token("The token's issuer is unknown.")
            signer = issuer if issuer in SERVICES else OPERATOR
            public = self._public(signer, jwt.get_unverified_header(token).get("kid", ""))
            claims = jwt.decode(
                token,
                public.key,
                algorithms=["EdDSA"],
                audience=[self._audience, *(["*"] if signer == OPERATOR else [])],
                options={"require": ["exp", "aud", "iss", "tenants"], "verify_exp": False},
            )
            if signer == OPERATOR:
                self._check_lifetime(claims)
            expires_at = min(float(claims["exp"]), public.until)
            return _Verified(Caller(issuer, _tenants(claims["tenants"])), expires_at)
        except jwt.InvalidAudienceError:
            raise invalid_token(f"The token is not for {self._audience}.") from None
        except (jwt.PyJWTError, KeyMissing, TypeError, ValueError):
            raise invalid_token("The token is malformed or its signature is wrong.") from None

    def _public(self, signer: str, kid: str) -> PublicKey:
        public = self._keys.public(signer).get(kid)
        if public is None:  # it may have been made this second
            self._keys.look(LOOK_AGAIN)
            public = self._keys.public(signer).get(kid)
        if public is None:
            raise invalid_token("The token was signed with a key that is not known here.")
        return public

    def _check_lifetime(self, claims: Mapping[str, Any]) -> None:
        token_id = claims.get("jti", "")
        longest = LONGEST if token_id else LONGEST_UNNAMED
        if claims["exp"] - self._time() > longest + LEEWAY:
            raise invalid_token("The token holds for too long (90 days at most, without an id one): make a new one.")
        try:
            revoked = bool(token_id) and token_id in self._keys.revoked
        except KeyMissing:
            raise invalid_token("Nobody here can tell whether the token was revoked.") from None
        if revoked:
            raise invalid_token("The token was revoked.")


def _tenants(claim: list[str]) -> frozenset[str]:
    tenants = frozenset(map(str, claim))
    return ALL if "*" in tenants else tenants


def invalid_token(message: str) -> ParleyError:
    hint = " Send `authorization: Bearer <token>`; `parley keys create --scope service` makes one."
    return ParleyError(Kind.UNAUTHENTICATED, "INVALID_TOKEN", message + hint)
