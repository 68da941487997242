"""Delivery on the database of the version before: `delivery_0001.sql` are rows as that version wrote them, without the
channels, whose secrets were sealed with another key."""

from pathlib import Path

import asyncpg

import services.delivery
from tests.integration.delivery.conftest import DEAD, SENT, Delivery, World, message, until, world
from tests.integration.upgrade.before import restore

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
