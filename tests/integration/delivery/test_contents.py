"""BEY-4: what bots answer is stored with what the channel's provider shows of it, and answers of the version before are
sent as that version meant them.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import asyncpg
import pytest

from parley.common.v1.content_pb2 import TEXT_FORMAT_MARKDOWN, Button, ButtonRow, OutboundContent
from parley.delivery.v1 import channel_pb2, delivery_pb2

from parley_client.errors import AlreadyExists, InvalidArgument
from tests.integration.delivery.conftest import CHANNEL, DEAD, SENT, TENANT, Delivery, World, message

ASKED = OutboundContent(
    text="**Secret** question",
    format=TEXT_FORMAT_MARKDOWN,
    buttons=[ButtonRow(buttons=[Button(title="Yes", data="secret-yes"), Button(title="No", data="secret-no")])],
)
SHOWN = "Secret question\n\n1. Yes\n2. No"
LONG = "word " * 1300


@asynccontextmanager
async def waiting(delivery: Delivery) -> AsyncIterator[None]:
    """What is sent in here waits until its end."""
    channels = delivery.as_("operator")[1]
    names = {"tenant_id": TENANT, "channel_id": CHANNEL}
    await channels.disable_channel(channel_pb2.DisableChannelRequest(request_id=uuid4().hex, **names))
    yield
    await channels.enable_channel(channel_pb2.EnableChannelRequest(request_id=uuid4().hex, **names))


async def test_buttons_are_numbered_for_a_provider_without_them_and_kept_as_they_were(
    delivery: Delivery, world: World
) -> None:
    asked = message("", content=ASKED)
    answer = await delivery.client.send_message(asked)
    sent = await delivery.until_state(answer.delivery_id, SENT)
    assert world.receiver.texts() == [SHOWN]
    assert sent.content == ASKED
    assert [(part.text, part.HasField("content")) for part in sent.parts] == [(SHOWN, False)]
    again = await delivery.client.send_message(asked)
    assert (again.delivery_id, again.duplicate) == (answer.delivery_id, True)
    with pytest.raises(AlreadyExists):
        await delivery.client.send_message(message(ASKED.text, request_id=asked.request_id))
    with pytest.raises(InvalidArgument):
        await delivery.client.send_message(message("", content=OutboundContent(buttons=ASKED.buttons)))


async def test_parts_are_stored_as_they_are_shown_and_counted_while_they_wait(delivery: Delivery, world: World) -> None:
    async with waiting(delivery):
        answer = await delivery.client.send_message(message(LONG))
        await delivery.client.send_message(message("", content=ASKED, chat="other"))
        stats = await delivery.as_("operator")[0].get_queue_stats(delivery_pb2.GetQueueStatsRequest(tenant_id=TENANT))
        assert stats.waiting == 3
        shown = await delivery.get(answer.delivery_id)
    sent = await delivery.until_state(answer.delivery_id, SENT)
    assert sent.content.text == LONG
    assert world.receiver.texts("chat-1") == [part.text for part in shown.parts] == [part.text for part in sent.parts]
    assert len(sent.parts) == 2


async def test_no_content_can_be_read_in_the_database_or_opened_in_another_row(
    delivery: Delivery, world: World
) -> None:
    ids = []
    async with waiting(delivery):
        for chat in ("one", "two"):
            answer = await delivery.client.send_message(message("", content=ASKED, chat=chat))
            ids.append(UUID(answer.delivery_id))
        connection = await asyncpg.connect(world.settings().database_url)
        rows = await connection.fetch("SELECT delivery::text FROM delivery.deliveries AS delivery")
        for word in (b"secret-yes", b"Secret question"):
            assert not any(word.decode() in row[0] or word.hex() in row[0] for row in rows)
        await connection.execute(
            "UPDATE delivery.deliveries SET sealed_content = other.sealed_content "
            "FROM delivery.deliveries AS other WHERE deliveries.delivery_id = $2 AND other.delivery_id = $1",
            *ids,
        )
        await connection.close()
        assert "cannot be opened" in (await delivery.get(str(ids[1]))).content.text
    await delivery.until_state(str(ids[0]), SENT)
    await delivery.until_state(str(ids[1]), DEAD)
    assert world.receiver.texts() == [SHOWN]


async def test_slices_of_a_text_that_the_version_before_has_sealed_are_sent(delivery: Delivery, world: World) -> None:
    """That version stored one text, and where its parts begin and end in it."""
    async with waiting(delivery):
        answer = await delivery.client.send_message(message("one two"))
        connection = await asyncpg.connect(world.settings().database_url)
        assert await connection.fetchval("SELECT sealed_text IS NOT NULL AND parts IS NULL FROM delivery.deliveries")
        await connection.execute("UPDATE delivery.deliveries SET cuts = '{0,3,4,7}'")
        await connection.close()
        stats = await delivery.as_("operator")[0].get_queue_stats(delivery_pb2.GetQueueStatsRequest(tenant_id=TENANT))
        assert stats.waiting == 2
    sent = await delivery.until_state(answer.delivery_id, SENT)
    assert (sent.content.text, world.receiver.texts()) == ("one two", ["one", "two"])
