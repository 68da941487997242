"""`parley keys rotate`: gives running processes new keys."""

from collections.abc import Sequence

from deploy.local.home import Home
from deploy.local.keyrings import hand_out
from deploy.local.tokens import revoke_all, write_tokens
from services.runtime.keys import OPERATOR, KeyMissing, Keys
from services.runtime.rotation import MASTER, OLD_KEPT, ROTATABLE, rotate_master, rotate_pair
from services.runtime.verifier import LEEWAY, LONGEST

TO_NOTICE = 3.0
"""Seconds that services have to begin signing with their new keys before a rotation `now` ends the old ones. A call
that is refused in between would count against its message. Clocks may differ by a few seconds more."""


def rotate(home: Home, names: Sequence[str], *, now: bool) -> list[str]:
    """Replaces the named keys, or all, and returns which. With `now`, old signatures are refused within 15 seconds.

    Without it a service's old key stays until its last tokens have ended, and the operator's for as long as a token of
    it may hold. Old master keys always stay. Raises `KeyMissing`, and ValueError for a name that is none.
    """
    if unknown := set(names) - set(ROTATABLE):
        raise ValueError(f"there is no key {sorted(unknown)[0]!r}: choose of {', '.join(ROTATABLE)}")
    if not (home.keys / "master.key").exists():
        raise KeyMissing(f"{home.keys} has no keys")

    def spread() -> None:
        hand_out(home.keys, home.keyrings)

    rotated = [name for name in ROTATABLE if name in names or not names]
    for name in rotated:
        if name == MASTER:
            rotate_master(home.keys, spread=spread)
            continue
        rotate_pair(home.keys, name, spread=spread, keep=kept_for(name, now=now))
        if name == OPERATOR and now:
            revoke_all(home)
        if name == OPERATOR and home.token_file.exists():
            write_tokens(home, Keys(home.keys))
    return rotated


def kept_for(name: str, *, now: bool) -> float:
    """Returns the seconds for which the old key of a pair stays."""
    if name == OPERATOR:
        return 0.0 if now else LONGEST + LEEWAY
    return TO_NOTICE if now else OLD_KEPT
