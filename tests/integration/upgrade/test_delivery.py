"""Delivery on the database of the version before: `delivery_0001.sql` are rows as that version wrote them, without the
channels, whose secrets were sealed with another key: a test writes those."""

import shutil
from pathlib import Path

import asyncpg
import pytest

from parley.delivery.v1 import channel_pb2

import services.delivery
from services.delivery.postgres.resealing import reseal
from services.runtime.crypto import Sealer
from services.runtime.keys import Keys
from services.runtime.rotation import rotate_master
from tests.integration.delivery.conftest import DEAD, SENT, Delivery, World, message, until, world
from tests.integration.upgrade.before import restore
from tests.support.stored import tables_with

__all__ = ["world"]

MIGRATIONS = Path(next(iter(services.delivery.__path__))) / "migrations"


async def rows(connection: "asyncpg.Connection[asyncpg.Record]") -> dict[str, str]:
    """The ids of deliveries by their request ids."""
    found = await connection.fetch("SELECT request_id, delivery_id::text FROM delivery.deliveries")
    return {row["request_id"]: row["delivery_id"] for row in found}


async def test_what_waited_is_sent_history_is_read_and_request_ids_are_known(world: World, postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    await restore(connection, "delivery", MIGRATIONS)
    await connection.execute(
        "UPDATE delivery.deliveries SET created_at = now() - interval '1 minute';"
        "UPDATE delivery.lanes SET due_at = now() + interval '1 hour' WHERE due_at IS NOT NULL"
    )
    before = await rows(connection)
    async with world.serving() as service:
        await service.create_channel()  # gets the key of the one that was there
        assert await rows(connection) == before
        sent = await service.get(before["0193a000-0000-7000-8000-000000000001/0"])
        assert [(part.text, part.state) for part in sent.parts] == [("sent", SENT)]
        dead = await service.get(before["dead/0"])
        assert [(part.text, part.state) for part in dead.parts] == [("dead", DEAD)]
        await waits_are_sent(world, service, connection, before)
        again = await service.client.send_message(message("unstarted", "four", request_id="unstarted/0"))
        assert again.delivery_id == before["unstarted/0"]
        later = await service.client.send_message(message("later", "three"))
        await service.until_state(later.delivery_id, SENT)
    await connection.close()


async def waits_are_sent(
    world: World, service: Delivery, connection: "asyncpg.Connection[asyncpg.Record]", before: dict[str, str]
) -> None:
    await connection.execute(
        "UPDATE delivery.lanes SET due_at = now() WHERE due_at IS NOT NULL AND lease_until IS NULL"
    )
    for request_id in ("waits/0", "long/0", "unstarted/0"):
        await service.until_state(before[request_id], SENT)
    assert world.receiver.texts("three")[0] == "waits"
    assert world.receiver.texts("four") == ["unstarted"]
    await until(lambda: world.dialog.states(before["long/0"]))


@pytest.mark.parametrize("rotated", [False, True])
async def test_channels_keep_their_settings_and_their_secrets_which_stay_sealed(
    world: World, postgres_url: str, keys_dir: Path, tmp_path: Path, rotated: bool
) -> None:
    """Also when the key that sealed them was replaced before the upgrade."""
    folder = tmp_path / "keys"
    shutil.copytree(keys_dir, folder)
    sealer = Sealer(Keys(folder))
    connection = await asyncpg.connect(postgres_url)
    await restore(connection, "delivery", MIGRATIONS)
    insert = """
        INSERT INTO delivery.channels
            (tenant_id, channel_id, provider, bot_id, api_base, token, webhook_secret, revision)
        VALUES ('acme', $1, $2, 'water', $3, $4, $5, nextval('delivery.channel_revisions'))
    """
    for channel_id, provider, api_base, token in (
        ("shop", 2, world.receiver.base, "old-token"),
        ("rest", 1, "", ""),
    ):
        place = f"delivery/channel/acme/{channel_id}"
        sealed = sealer.seal(token.encode(), bound_to=f"{place}/token")
        secret = sealer.seal(b"old-secret", bound_to=f"{place}/secret")
        await connection.execute(insert, channel_id, provider, api_base, sealed, secret)
    if rotated:
        rotate_master(folder, spread=lambda: None)
    async with world.serving(keys_dir=folder) as service:
        found = await service.as_("edge")[1].get_channel(channel_pb2.GetChannelRequest(channel_id="shop"))
        assert (found.webhook_secret, dict(found.secrets)) == ("old-secret", {"webhook_secret": "old-secret"})
        assert found.channel.settings.chat2desk.api_base == world.receiver.base
        assert (found.channel.has_token, found.channel.broken_reason) == (True, "")
        rest = await service.as_("edge")[1].get_channel(channel_pb2.GetChannelRequest(channel_id="rest"))
        assert rest.channel.settings.HasField("api") and not rest.channel.broken_reason
        sent = await service.client.send_message(message("text", "one", channel_id="shop"))
        await service.until_state(sent.delivery_id, SENT)
        assert {call.token for call in world.receiver.calls} == {"old-token"}
    async with asyncpg.create_pool(postgres_url, min_size=1, max_size=1) as pool:
        assert await tables_with("old-token", pool, "delivery") == set()
        await reseal(pool, Sealer(Keys(folder)))
    for older in folder.glob("master.*.key"):
        older.unlink()
    async with world.serving(keys_dir=folder) as service:
        found = await service.as_("edge")[1].get_channel(channel_pb2.GetChannelRequest(channel_id="shop"))
        assert (found.webhook_secret, found.channel.broken_reason) == ("old-secret", "")
    await connection.close()
