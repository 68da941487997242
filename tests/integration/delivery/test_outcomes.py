"""What dialog cannot take of what it is told."""

import asyncpg
import pytest

from services.delivery import outcomes
from tests.integration.delivery.conftest import SENT, Delivery, World, message, until


async def test_an_outcome_that_dialog_cannot_take_holds_up_no_other_and_is_given_up(
    delivery: Delivery, world: World, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "TRIES", 2)
    world.dialog.away = True
    bad = (await delivery.client.send_message(message("one"))).delivery_id
    good = (await delivery.client.send_message(message("two"))).delivery_id
    await delivery.until_state(good, SENT)
    world.dialog.faulty.add(bad)
    world.dialog.away = False

    async def told() -> bool:
        return bool(world.dialog.states(good))

    await until(told)

    connection = await asyncpg.connect(postgres_url)

    async def given_up() -> bool:
        return not await connection.fetchval("SELECT count(*) FROM delivery.outcomes")

    await until(given_up)
    await connection.close()
    assert world.dialog.states(bad) == []
    assert 2 <= world.dialog.asked.count(bad) <= 3
