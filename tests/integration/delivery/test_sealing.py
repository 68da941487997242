"""SEC-4: texts are sealed at rest, bound to their tenant and delivery."""

import shutil
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from parley.delivery.v1 import channel_pb2, delivery_pb2

from parley_client.errors import AlreadyExists
from services.delivery.postgres.resealing import reseal
from services.runtime.crypto import Sealer
from services.runtime.keys import Keys
from services.runtime.rotation import rotate_master
from tests.integration.delivery.conftest import CHANNEL, DEAD, SENT, TENANT, TOKEN, Delivery, World, message
from tests.support.stored import tables_with

SECRET = "Джалал-Абад 17"


async def test_no_text_can_be_read_in_the_database(delivery: Delivery, world: World) -> None:
    sent = await delivery.client.send_message(message(SECRET))
    shown = await delivery.until_state(sent.delivery_id, SENT)
    assert (shown.content.text, shown.parts[0].text) == (SECRET, SECRET)
    world.receiver.fail(400)
    dead = await delivery.client.send_message(message(SECRET))
    await delivery.until_state(dead.delivery_id, DEAD)
    request = delivery_pb2.RetryDeliveryRequest(tenant_id=TENANT, delivery_id=dead.delivery_id, request_id="again")
    again = (await delivery.as_("operator")[0].retry_delivery(request)).delivery
    assert (again.content.text, again.parts[0].text) == (SECRET, SECRET)
    await delivery.until_state(dead.delivery_id, SENT)
    assert world.receiver.texts() == [SECRET] * 3
    async with asyncpg.create_pool(world.settings().database_url) as database:
        assert await tables_with(SECRET, database, "delivery") == set()


async def test_a_repeated_call_is_compared_with_the_sealed_text(delivery: Delivery) -> None:
    first = await delivery.client.send_message(message("text", request_id="r/0"))
    again = await delivery.client.send_message(message("text", request_id="r/0"))
    assert (again.delivery_id, again.duplicate) == (first.delivery_id, True)
    with pytest.raises(AlreadyExists):
        await delivery.client.send_message(message("other", request_id="r/0"))


async def test_a_text_in_the_wrong_place_is_shown_as_unreadable_and_the_others_are_shown(
    delivery: Delivery, world: World
) -> None:
    ids = []
    for text in ("one", "two", "three"):
        answer = await delivery.client.send_message(message(text, chat=text))
        await delivery.until_state(answer.delivery_id, SENT)
        ids.append(UUID(answer.delivery_id))
    connection = await asyncpg.connect(world.settings().database_url)
    move = """
        UPDATE delivery.deliveries SET sealed_text =
            (SELECT sealed_text FROM delivery.deliveries WHERE delivery_id = $1)
        WHERE delivery_id = $2
    """
    await connection.execute(move, ids[0], ids[1])
    listed = await delivery.as_("operator")[0].list_deliveries(delivery_pb2.ListDeliveriesRequest(tenant_id=TENANT))
    texts = [each.content.text for each in listed.deliveries]
    assert (texts[0], texts[2]) == ("three", "one")
    assert "cannot be opened" in texts[1]
    assert listed.deliveries[1].parts[0].text == texts[1]
    repeated = message("two", chat="two", request_id=listed.deliveries[1].request_id)
    assert (await delivery.client.send_message(repeated)).delivery_id == str(ids[1])
    await connection.close()


async def test_a_text_that_does_not_open_is_dead_and_the_others_are_sent(world: World) -> None:
    async with world.serving() as delivery:
        await delivery.create_channel()
        channels = delivery.as_("operator")[1]
        await channels.disable_channel(
            channel_pb2.DisableChannelRequest(tenant_id=TENANT, channel_id=CHANNEL, request_id="off")
        )
        answers = [await delivery.client.send_message(message(text, chat=text)) for text in ("one", "two", "three")]
        connection = await asyncpg.connect(world.settings().database_url)
        bad = UUID(answers[1].delivery_id)
        change = "UPDATE delivery.deliveries SET sealed_text = $1 WHERE delivery_id = $2"
        await connection.execute(change, b"\x01" * 60, bad)
        await connection.close()
        await channels.enable_channel(
            channel_pb2.EnableChannelRequest(tenant_id=TENANT, channel_id=CHANNEL, request_id="on")
        )
        for answer in (answers[0], answers[2]):
            await delivery.until_state(answer.delivery_id, SENT)
        await delivery.until_state(str(bad), DEAD)
        assert sorted(world.receiver.texts()) == ["one", "three"]


async def test_texts_that_the_version_before_has_left_in_clear_are_sent(world: World) -> None:
    async with world.serving(delivery_concurrency=1) as delivery:
        await delivery.create_channel()
        await delivery.as_("operator")[1].disable_channel(
            channel_pb2.DisableChannelRequest(tenant_id=TENANT, channel_id=CHANNEL, request_id="off")
        )
        answer = await delivery.client.send_message(message("before"))
        connection = await asyncpg.connect(world.settings().database_url)
        await connection.execute("UPDATE delivery.deliveries SET text = 'before', sealed_text = NULL")
        await connection.close()
        await delivery.as_("operator")[1].enable_channel(
            channel_pb2.EnableChannelRequest(tenant_id=TENANT, channel_id=CHANNEL, request_id="on")
        )
        shown = await delivery.until_state(answer.delivery_id, SENT)
        assert shown.content.text == "before"
        assert world.receiver.texts() == ["before"]


async def test_channels_do_without_an_older_master_key_once_they_were_sealed_again(
    world: World, keys_dir: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "keys"
    shutil.copytree(keys_dir, folder)
    async with world.serving(keys_dir=folder) as delivery:
        await delivery.create_channel()
    rotate_master(folder, spread=lambda: None)
    async with asyncpg.create_pool(world.settings().database_url, min_size=1, max_size=1) as pool:
        sealer = Sealer(Keys(folder))
        assert await reseal(pool, sealer) == 1
        assert await reseal(pool, sealer) == 0
        (older,) = folder.glob("master.*.key")
        older.unlink()
    async with world.serving(keys_dir=folder) as delivery:
        answer = await delivery.client.send_message(message("text"))
        await delivery.until_state(answer.delivery_id, SENT)
        assert [call.token for call in world.receiver.calls] == [TOKEN]


async def test_what_a_provider_says_before_the_message_is_known_is_sealed(delivery: Delivery, world: World) -> None:
    request = delivery_pb2.ReportStatusRequest(
        tenant_id=TENANT,
        channel_id=CHANNEL,
        provider_message_id="1001",
        status=delivery_pb2.PROVIDER_STATUS_FAILED,
        at=Timestamp(seconds=1_800_000_000),
        dedupe_key="early",
        error=f"cannot send {SECRET}",
    )
    await delivery.as_("edge")[0].report_status(request)
    async with asyncpg.create_pool(world.settings().database_url, min_size=1, max_size=1) as database:
        assert await database.fetchval("SELECT count(*) FROM delivery.statuses WHERE NOT matched") == 1
        assert await tables_with(SECRET, database, "delivery") == set()
        answer = await delivery.client.send_message(message(SECRET))
        dead = await delivery.until_state(answer.delivery_id, DEAD)
        assert dead.parts[0].attempts[-1].error == "cannot send ***"
        assert await tables_with(SECRET, database, "delivery") == set()
