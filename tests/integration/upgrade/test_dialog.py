"""Dialog on the database of the version before: `dialog_0001.sql` are rows as that version wrote them, schema 0001."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from parley.dialog.v1 import dialog_pb2

import services.dialog
from parley_client.tokens import TokenSource
from services.dialog.settings import DialogSettings
from tests.integration.dialog.conftest import TENANT, World, submission
from tests.integration.dialog.peers import Peers
from tests.integration.upgrade.before import restore
from tests.support.pages import pages

BEFORE = {
    "done": "COMPLETED",
    "model": "COMPLETED",
    "frozen": "PROCESSING",  # its lane is leased, by a worker that is gone
    "planned": "RECEIVED",
    "dead": "TERMINAL",
    "failed": "FAILED",
    "waiting": "PROCESSING",
    "behind": "RECEIVED",
}


@pytest.fixture
async def world(
    make_settings: Callable[..., Any], tokens_as: Callable[..., TokenSource], postgres_url: str
) -> AsyncIterator[World]:
    connection = await asyncpg.connect(postgres_url)
    await restore(connection, "dialog", Path(next(iter(services.dialog.__path__))) / "migrations")
    # As if the version before had stopped a moment ago.
    await connection.execute(
        "UPDATE dialog.messages SET received_at = now() - interval '1 minute';"
        "UPDATE dialog.lanes SET due_at = now() WHERE pending > 0 AND lease_until IS NULL;"
        "UPDATE dialog.lanes SET due_at = now(), lease_until = now() WHERE lease_until IS NOT NULL"
    )
    await connection.close()
    async with Peers(make_settings(DialogSettings)) as peers, World(make_settings, peers, tokens_as) as world:
        yield world


async def listed(world: World) -> dict[str, dialog_pb2.Message]:
    found = await world.dialog.list_messages(dialog_pb2.ListMessagesRequest(tenant_id=TENANT))
    return {message.content.text: message for message in found.messages}


async def test_history_is_read_as_it_was(world: World) -> None:
    await world.start(dialog_workers=0)
    messages = await listed(world)
    states = {
        text or "rejected": dialog_pb2.MessageState.Name(message.state).removeprefix("MESSAGE_STATE_")
        for text, message in messages.items()
    }
    texts = {"hello": "done", "ask": "model"}
    assert {texts.get(text, text): state for text, state in states.items()} == BEFORE | {"rejected": "TERMINAL"}
    assert [reply.content.text for reply in messages["hello"].replies] == ["1: hello"]
    assert [reply.content.text for reply in messages["ask"].replies] == ["1: model says ask"]


async def test_what_waited_is_answered_and_nothing_is_asked_twice(world: World) -> None:
    world.flow.model = False
    await world.start()
    for text in ("frozen", "planned", "failed", "waiting", "behind"):
        await world.ends((await listed(world))[text].message_id)
    model = [turn for turn in world.flow.asked if turn.messages[0].text == "frozen"]
    assert len(model) == 1
    assert not [turn for turn in world.flow.asked if turn.messages[0].text == "planned"], "its plan was committed"
    later = await world.submit("later", "done")
    await world.ends(later.message_id)
    assert "later" in " ".join(world.delivery.texts())


async def test_a_duplicate_of_before_is_one_still(world: World) -> None:
    await world.start(dialog_workers=0)
    before = await listed(world)
    for text, key in {"hello": "done", "failed": "failed", "behind": "behind"}.items():
        again = await world.dialog.submit_message(submission(text, key, dedupe_key=key))
        assert (again.duplicate, again.message_id) == (True, before[text].message_id)
    assert not (await world.dialog.submit_message(submission("new", "new", dedupe_key="new"))).duplicate


async def test_a_dead_letter_of_before_can_be_retried(world: World) -> None:
    await world.start()
    dead = (await listed(world))["dead"]
    request = dialog_pb2.RetryMessageRequest(tenant_id=TENANT, message_id=dead.message_id, request_id="again")
    await world.dialog.retry_message(request)
    await world.ends(dead.message_id)


async def test_pages_reach_from_the_new_stretch_into_the_first(world: World) -> None:
    await world.start(dialog_workers=0)
    await world.submit("new", "done")
    request = dialog_pb2.ListMessagesRequest(tenant_id=TENANT, page_size=4)
    ids = [message.message_id async for page in pages(world.dialog.list_messages, request) for message in page.messages]
    assert len(ids) == len(set(ids)) == len(BEFORE) + 2
    assert ids == sorted(ids, reverse=True)
