"""DLG-15: bots with forms of their own, with the real flows."""

import json
from typing import Any
from uuid import uuid4

import pytest

from parley.dialog.v1 import bot_pb2, dialog_pb2, tenant_pb2

from parley_client.errors import InvalidArgument
from tests.integration.dialog.conftest import BOT, TENANT, World, submission

FORM = """
form_id: feedback
version: "1"
default_locale: en
slots:
  - name: mark
    step: asking_mark
    type: text
    pattern: PATTERN
    label: {en: mark}
    ask: {en: "How was it?"}
    invalid: {en: "One word, please."}
"""
OLD = FORM.replace("PATTERN", r"'(?=\w)\w'")
"""What the version before had taken."""


@pytest.fixture
async def forms(world: World) -> World:
    await world.start(real=True)
    tenant = tenant_pb2.Tenant(tenant_id=TENANT)
    await world.tenants.create_tenant(tenant_pb2.CreateTenantRequest(tenant=tenant, request_id="t"))
    return world


async def test_a_pattern_that_re2_lacks_is_refused_with_line_and_reason(forms: World) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await forms.bots.create_bot(form_bot(OLD))
    assert refused.value.reason == "INVALID_FORM"
    assert refused.value.message.startswith("slots[0].pattern: line 9: is no pattern of RE2")


async def test_a_stored_form_that_is_refused_now_breaks_its_bot_and_nothing_else(forms: World) -> None:
    await forms.bots.create_bot(form_bot(FORM.replace("PATTERN", r"'\w'")))
    record = json.dumps({"form": {"definition_yaml": OLD}, "error_message": "sorry", "dialog_ttl": 3600})
    sql = "UPDATE dialog.bots SET settings = $1, stamp = nextval('dialog.bot_stamps')"
    await forms.database.execute(sql, record)

    message = await forms.dialog.submit_message(submission("hello"))
    dead = await forms.ends(message.message_id, dialog_pb2.MESSAGE_STATE_TERMINAL)

    assert dead.terminal_reason == "INVALID_FORM"
    assert forms.delivery.texts() == ["sorry"]
    get = bot_pb2.GetBotRequest(tenant_id=TENANT, bot_id=BOT)
    bot = (await forms.bots.get_bot(get)).bot
    assert bot.form.definition_yaml == OLD
    assert "slots[0].pattern: line 9" in bot.broken_reason

    renamed = await update(forms, "display_name", display_name="Feedback")
    assert (renamed.display_name, bool(renamed.broken_reason)) == ("Feedback", True)
    mended = await update(forms, "form", form=bot_pb2.FormFlow(definition_yaml=FORM.replace("PATTERN", r"'\w'")))
    assert not mended.broken_reason
    again = await forms.dialog.submit_message(submission("hello"))
    await forms.ends(again.message_id)


def form_bot(definition: str) -> bot_pb2.CreateBotRequest:
    bot = bot_pb2.Bot(tenant_id=TENANT, bot_id=BOT, form=bot_pb2.FormFlow(definition_yaml=definition))
    return bot_pb2.CreateBotRequest(tenant_id=TENANT, bot=bot, request_id=str(uuid4()))


async def update(forms: World, path: str, **fields: Any) -> bot_pb2.Bot:
    request = bot_pb2.UpdateBotRequest(
        tenant_id=TENANT, bot=bot_pb2.Bot(tenant_id=TENANT, bot_id=BOT, **fields), request_id=str(uuid4())
    )
    request.update_mask.paths.append(path)
    return (await forms.bots.update_bot(request)).bot
