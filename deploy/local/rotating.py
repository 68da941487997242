"""`parley keys rotate`: new keys for processes that run on."""

from collections.abc import Sequence

from deploy.local.home import Home
from deploy.local.keyrings import hand_out
from deploy.local.tokens import write_operator_token
from services.runtime.keys import OPERATOR, KeyMissing, Keys
from services.runtime.rotation import MASTER, OLD_KEPT, ROTATABLE, rotate_master, rotate_pair
from services.runtime.verifier import LEEWAY, LONGEST


def rotate(home: Home, names: Sequence[str], *, now: bool) -> list[str]:
    """Replace the named keys, or all; which. With `now`, what the old ones have signed is refused from now on.

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
        keep = 0.0 if now else LONGEST + LEEWAY if name == OPERATOR else OLD_KEPT
        rotate_pair(home.keys, name, spread=spread, keep=keep)
        if name == OPERATOR and home.token_file.exists():
            write_operator_token(home, Keys(home.keys))
    return rotated
