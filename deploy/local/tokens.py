"""Tokens of people and of tenants' own services, signed with the operator's key.

Tokens that are given away have an id and are listed in `tokens.json` of the home, which never holds a token itself. A
revoked id goes into `revoked.json`, which every process has in its keyring and reads within a second. So no call is
needed to check a token, and a process that cannot read the list accepts none that could be on it.
"""

import json
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from secrets import token_hex
from typing import Literal

from deploy.local.home import Home, write_private
from deploy.local.keyrings import hand_out
from services.runtime.keys import OPERATOR, Keys, make_token
from services.runtime.metrics.page import AUDIENCE
from services.runtime.rotation import locked, replace_file
from services.runtime.verifier import LONGEST

Issuer = Literal["operator", "integration"]
Scope = Literal["service", "metrics"]
"""What a token opens: the gRPC ports, or the pages of metrics."""
OPERATOR_SECONDS = 3600.0
"""How long the tokens hold that the stack makes for the command line and Prometheus, and makes anew while it runs."""


class TokenRefused(ValueError):
    """A token cannot be made or revoked in this way."""


@dataclass(frozen=True)
class Issued:
    """A token that was given away, without the token. Times are RFC 3339."""

    id: str
    name: str
    issuer: str
    tenant_id: str
    created_at: str
    expires_at: str
    revoked_at: str | None = None
    scope: Scope = "service"

    def as_dict(self) -> dict[str, str | None]:
        return asdict(self)

    @property
    def ends(self) -> float:
        """The time at which it ends by itself, in Unix seconds."""
        return datetime.fromisoformat(self.expires_at).timestamp()


def operator_token(keys: Keys, *, issuer: Issuer, tenants: Collection[str], seconds: float, audience: str = "*") -> str:
    """Returns a token without an id for these tenants (`*`: all), which every service (or one audience) accepts.

    Raises `KeyMissing`.
    """
    expires_at = time.time() + seconds
    return make_token(keys.private(OPERATOR), issuer=issuer, audience=audience, tenants=tenants, expires_at=expires_at)


def write_tokens(home: Home, keys: Keys) -> str:
    """Writes a new operator's token for the command line, and one for Prometheus. Returns the operator's."""

    def token(audience: str) -> str:
        return operator_token(keys, issuer="operator", tenants=["*"], seconds=OPERATOR_SECONDS, audience=audience)

    operator = token("*")
    write_private(home.token_file, operator)
    write_private(home.metrics_token_file, token(AUDIENCE))
    return operator


def issue(
    home: Home, *, issuer: Issuer, tenant_id: str, name: str, seconds: float, scope: Scope = "service"
) -> tuple[str, Issued]:
    """Makes a token that is listed and can be revoked. Raises `TokenRefused` and `KeyMissing`."""
    if not 0 < seconds <= LONGEST:
        raise TokenRefused(f"a token holds for at most {LONGEST / 86_400:.0f} days")
    key = Keys(home.keys).private(OPERATOR)
    now = time.time()
    row = Issued(f"st_{token_hex(8)}", name, issuer, tenant_id, _at(now), _at(now + seconds), scope=scope)
    with locked(home.keys):  # listed before anybody has it
        _write(home, [*issued(home), row])
    audience = AUDIENCE if scope == "metrics" else "*"
    ends = now + seconds
    token = make_token(key, issuer=issuer, audience=audience, tenants=[tenant_id], expires_at=ends, token_id=row.id)
    return token, row


def issued(home: Home) -> list[Issued]:
    """Returns the tokens that were given away, oldest first, until 90 days after their end."""
    try:
        rows = json.loads(home.tokens_file.read_text())
    except FileNotFoundError:
        return []
    return [row for row in (Issued(**row) for row in rows) if row.ends > time.time() - LONGEST]


def revoke(home: Home, token_id: str) -> Issued:
    """Revokes a token, everywhere within seconds. Raises `TokenRefused` if there is none with this id."""
    with locked(home.keys):
        rows = {row.id: row for row in issued(home)}
        if token_id not in rows:
            raise TokenRefused(f"there is no token {token_id!r}")
        _end(home, rows, [token_id])
    return rows[token_id]


def revoke_all(home: Home) -> None:
    """Revokes all tokens that were given away, because their key has ended."""
    with locked(home.keys):
        rows = {row.id: row for row in issued(home)}
        _end(home, rows, list(rows))


def _end(home: Home, rows: dict[str, Issued], ids: Collection[str]) -> None:
    """Ends tokens first where it counts. If this is interrupted, revoke them again."""
    ends = _revoked(home) | {token_id: rows[token_id].ends for token_id in ids}
    replace_file(home.keys / "revoked.json", json.dumps(ends).encode())
    hand_out(home.keys, home.keyrings)
    now = _at(time.time())
    rows.update({each: replace(rows[each], revoked_at=rows[each].revoked_at or now) for each in ids})
    _write(home, list(rows.values()))


def _revoked(home: Home) -> dict[str, float]:
    """Returns the revoked ids, and the ends of their tokens, of tokens that could still be shown. They come from the
    list that counts, so that a revocation that was interrupted stays.
    """
    found: dict[str, float] = json.loads((home.keys / "revoked.json").read_text())
    return {token_id: ends for token_id, ends in found.items() if ends > time.time() - LONGEST}


def _write(home: Home, rows: Collection[Issued]) -> None:
    replace_file(home.tokens_file, json.dumps([asdict(row) for row in rows], indent=1).encode())


def _at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
