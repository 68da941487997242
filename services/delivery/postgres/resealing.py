"""Seals the secrets of channels again once the master key was replaced, so that they do not need the old one."""

from typing import TYPE_CHECKING

from services.delivery.postgres.channels import QUERIES, SealedSecrets
from services.runtime.crypto import CannotOpen, Sealer

if TYPE_CHECKING:
    from services.runtime.postgres import Pool

BATCH = 100


async def reseal(pool: "Pool", sealer: Sealer) -> int:
    """Seals what an older master key has sealed, and returns the number of channels that had such secrets.

    What cannot be opened stays as it is. A channel whose secrets are changed meanwhile keeps the new ones.
    """
    secrets = SealedSecrets(sealer)
    last, done = 0, 0
    while rows := await pool.fetch(QUERIES["sealed_before"], last, sealer.current_id.hex(), BATCH):
        for key, tenant_id, channel_id, stored in rows:
            try:
                opened = secrets.open(tenant_id, channel_id, stored)
            except CannotOpen:
                continue  # an error is logged wherever the channel is read
            anew = secrets.seal(tenant_id, channel_id, opened)
            done += await pool.fetchval(QUERIES["reseal"], key, stored, anew) is not None
        last = rows[-1]["channel_key"]
    return done
