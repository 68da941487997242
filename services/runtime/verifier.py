"""Verifies the tokens that callers show: JWTs signed with Ed25519."""

import time
from dataclasses import dataclass

import jwt

from services.kernel.errors import Kind, ParleyError
from services.runtime.auth import ALL, Caller
from services.runtime.keys import ISSUERS, OPERATOR, SERVICES, KeyMissing, Keys, Time

LEEWAY = 10.0
"""Seconds by which clocks may differ."""

_REMEMBERED = 1024


@dataclass(frozen=True)
class _Verified:
    caller: Caller
    expires_at: float


class Verifier:
    """Verifies tokens that are meant for one audience. A token seen before costs a look-up."""

    def __init__(self, keys: Keys, audience: str, *, time: Time = time.time) -> None:
        self._keys = keys
        self._audience = audience
        self._time = time
        self._seen: dict[str, _Verified] = {}

    def verify(self, token: str) -> Caller:
        """Who shows the token. Raises INVALID_TOKEN."""
        verified = self._seen.get(token)
        if verified is None:
            verified = self._decode(token)
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            self._seen[token] = verified
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
            key = self._keys.public(signer).get(jwt.get_unverified_header(token).get("kid", ""))
            if key is None:
                raise invalid_token("The token was signed with a key that is not known here.")
            claims = jwt.decode(
                token,
                key,
                algorithms=["EdDSA"],
                audience=[self._audience, *(["*"] if signer == OPERATOR else [])],
                options={"require": ["exp", "aud", "iss", "tenants"], "verify_exp": False},
            )
            return _Verified(Caller(issuer, _tenants(claims["tenants"])), float(claims["exp"]))
        except jwt.InvalidAudienceError:
            raise invalid_token(f"The token is not for {self._audience}.") from None
        except (jwt.PyJWTError, KeyMissing, TypeError, ValueError):
            raise invalid_token("The token is malformed or its signature is wrong.") from None


def _tenants(claim: list[str]) -> frozenset[str]:
    tenants = frozenset(map(str, claim))
    return ALL if "*" in tenants else tenants


def invalid_token(message: str) -> ParleyError:
    hint = " Send `authorization: Bearer <token>`; `parley keys create --scope service` makes one."
    return ParleyError(Kind.UNAUTHENTICATED, "INVALID_TOKEN", message + hint)
