"""Tokens of people and of tenants' own services, signed with the operator's key."""

import time
from collections.abc import Collection
from typing import Literal

from services.runtime.keys import OPERATOR, Keys, make_token


def operator_token(
    keys: Keys, *, issuer: Literal["operator", "integration"], tenants: Collection[str], seconds: float
) -> str:
    """A token that every service accepts for so long, for these tenants (`*` for all). Raises `KeyMissing`."""
    expires_at = time.time() + seconds
    return make_token(keys.private(OPERATOR), issuer=issuer, audience="*", tenants=tenants, expires_at=expires_at)
