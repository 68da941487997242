"""Seals the secrets of channels again once the master key was replaced, so that they do not need the old one."""

from typing import TYPE_CHECKING

from services.delivery.postgres.channels import QUERIES, bound_to
from services.runtime.crypto import CannotOpen, Sealer

if TYPE_CHECKING:
    from services.runtime.postgres import Pool

BATCH = 100


async def reseal(pool: "Pool", sealer: Sealer) -> int:
    """Seal what an older master key has sealed; how many channels. What cannot be opened stays as it is.

    A channel whose secrets are changed meanwhile keeps the new ones. Nothing that anybody sees changes.
    """
    last, done = 0, 0
    while rows := await pool.fetch(QUERIES["sealed_before"], last, sealer.current_id, BATCH):
        for key, tenant_id, channel_id, *sealed in rows:
            places = [bound_to(tenant_id, channel_id, what) for what in ("token", "secret")]
            try:
                opened = [sealer.open(each, bound_to=place) for each, place in zip(sealed, places, strict=True)]
            except CannotOpen:
                continue  # told wherever the channel is read
            anew = [sealer.seal(each, bound_to=place) for each, place in zip(opened, places, strict=True)]
            done += await pool.fetchval(QUERIES["reseal"], key, *sealed, *anew) is not None
        last = rows[-1]["channel_key"]
    return done
