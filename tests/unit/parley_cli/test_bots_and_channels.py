"""What the commands for bots and channels send and print."""

from pathlib import Path

import grpc
import pytest

from parley.delivery.v1 import channel_pb2, delivery_pb2
from parley.dialog.v1 import bot_pb2, dialog_pb2

from tests.unit.parley_cli.conftest import Scripted, channel, dead_delivery, document, failure, message, parley


def test_a_chat2desk_channel_comes_with_its_webhook_address(stack: Scripted) -> None:
    made = channel("shop", channel_pb2.PROVIDER_CHAT2DESK)
    stack.answers["GetBot"] = bot_pb2.GetBotResponse()
    stack.answers["CreateChannel"] = channel_pb2.CreateChannelResponse(channel=made, webhook_secret="s/3cret")
    command = "channels create --id shop --provider chat2desk --bot water --token T --api-base http://x/chat2desk/"
    shown = document(*command.split())
    assert shown["webhook_url"] == "http://127.0.0.1:8080/webhooks/chat2desk/shop?secret=s/3cret"
    assert shown["webhook_secret"] == "s/3cret"
    assert shown["provider"] == "CHAT2DESK"
    request = stack.one("CreateChannel")
    assert request.channel.settings.chat2desk.api_base == "http://x/chat2desk"
    assert dict(request.secrets.values) == {"token": "T"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--provider viber", "'chat2desk'"),
        ("--provider telegram", "'chat2desk'"),
        ("--provider chat2desk", "needs --token"),
        ("--provider chat2desk --token T --mode polling", "'webhook'"),
        ("--provider api --api-base https://x.example", "no --api-base"),
    ],
)
def test_options_that_do_not_fit_the_provider_are_refused(stack: Scripted, options: str, words: str) -> None:
    result = parley("channels", "create", "--id", "x", "--bot", "water", *options.split())
    assert result.exit_code in (1, 2)
    assert words in result.stderr
    assert not stack.requests


def test_a_channels_new_address_needs_its_token_again(stack: Scripted) -> None:
    made = channel("shop", channel_pb2.PROVIDER_CHAT2DESK)
    made.has_token = True
    stack.answers["GetChannel"] = channel_pb2.GetChannelResponse(channel=made)
    stack.answers["UpdateChannel"] = channel_pb2.UpdateChannelResponse()
    refused = parley("channels", "update", "shop", "--api-base", "https://other.example")
    assert refused.exit_code == 1
    assert "needs --token again" in refused.stderr
    document("channels", "update", "shop", "--api-base", "https://other.example/", "--token", "T")
    request = stack.one("UpdateChannel")
    assert list(request.update_mask.paths) == ["settings.chat2desk.api_base"]
    assert request.channel.settings.chat2desk.api_base == "https://other.example"
    assert dict(request.secrets.values) == {"token": "T"}


def test_a_channels_update_names_only_what_was_given(stack: Scripted) -> None:
    stack.answers["GetChannel"] = channel_pb2.GetChannelResponse(channel=channel("shop", channel_pb2.PROVIDER_API))
    stack.answers["GetBot"] = bot_pb2.GetBotResponse()
    stack.answers["UpdateChannel"] = channel_pb2.UpdateChannelResponse()
    document("channels", "update", "shop", "--bot", "other")
    request = stack.one("UpdateChannel")
    assert list(request.update_mask.paths) == ["bot_id"]
    assert request.channel.bot_id == "other"
    assert "nothing to change" in parley("channels", "update", "shop").stderr


def test_a_form_of_ones_own_is_read_from_its_file(stack: Scripted, tmp_path: Path) -> None:
    (tmp_path / "form.yaml").write_text("id: own")
    stack.answers["CreateBot"] = bot_pb2.CreateBotResponse()
    for option in ("--form", "--form-file"):
        document("bots", "create", "--id", "own", "--flow", "form", option, str(tmp_path / "form.yaml"))
        assert stack.requests["CreateBot"].pop().bot.form.definition_yaml == "id: own"
    said = "slots[0].pattern: line 9: is no pattern of RE2"
    stack.answers["CreateBot"] = failure(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FORM", said)
    wrong = parley("bots", "create", "--id", "own", "--flow", "form", "--form", str(tmp_path / "form.yaml"))
    assert f"{tmp_path / 'form.yaml'}: {said}" in wrong.stderr
    missing = parley("bots", "create", "--id", "own", "--flow", "form", "--form", "missing.yaml")
    assert missing.stderr == "error: --form missing.yaml: No such file or directory\n"


def test_a_bots_update_keeps_the_rest_of_its_flow(stack: Scripted) -> None:
    bot = bot_pb2.Bot(bot_id="a", assistant=bot_pb2.AssistantFlow(system_prompt="P", model="old"))
    stack.answers |= {
        "GetBot": bot_pb2.GetBotResponse(bot=bot),
        "UpdateBot": bot_pb2.UpdateBotResponse(bot=bot),
    }
    shown = document("bots", "update", "a", "--model", "new", "--debounce", "1.5")
    request = stack.one("UpdateBot")
    assert list(request.update_mask.paths) == ["assistant", "debounce"]
    assert (request.bot.assistant.system_prompt, request.bot.assistant.model) == ("P", "new")
    assert request.bot.debounce.ToMilliseconds() == 1500
    assert shown["flow"] == "assistant"
    assert "for bots of flow form" in parley("bots", "update", "a", "--form", "water-order").stderr


def test_a_bot_says_how_long_a_person_waits_for_a_model_that_is_away(stack: Scripted) -> None:
    bot = bot_pb2.Bot(bot_id="a", assistant=bot_pb2.AssistantFlow(system_prompt="P"), answer_late=True)
    stack.answers |= {"GetBot": bot_pb2.GetBotResponse(bot=bot), "UpdateBot": bot_pb2.UpdateBotResponse(bot=bot)}
    document("bots", "update", "a", "--answer-within", "2m", "--no-answer-late")
    request = stack.one("UpdateBot")
    assert list(request.update_mask.paths) == ["answer_late", "answer_within"]
    assert (request.bot.answer_within.seconds, request.bot.answer_late) == (120, False)


def test_deleting_a_channel_asks_before_replies_that_wait_are_killed(stack: Scripted) -> None:
    stack.answers |= {
        "ListDeliveries": delivery_pb2.ListDeliveriesResponse(deliveries=[dead_delivery("d1", 0)]),
        "DeleteChannel": channel_pb2.DeleteChannelResponse(),
    }
    refused = parley("channels", "delete", "shop")
    assert refused.exit_code == 1
    assert "1 replies wait to go out by shop" in refused.stderr
    assert "DeleteChannel" not in stack.requests
    assert document("channels", "delete", "shop", "--yes")["deleted"] is True
    stack.answers["ListDeliveries"] = delivery_pb2.ListDeliveriesResponse()
    assert parley("channels", "delete", "shop").exit_code == 0


def test_deleting_a_bot_asks_before_messages_that_wait_are_lost(stack: Scripted) -> None:
    waits = message(state=dialog_pb2.MESSAGE_STATE_RECEIVED, bot_id="water")
    stack.answers |= {
        "ListMessages": dialog_pb2.ListMessagesResponse(messages=[waits]),
        "DeleteBot": bot_pb2.DeleteBotResponse(),
    }
    assert "1 messages wait for bot water" in parley("bots", "delete", "water").stderr
    assert parley("bots", "delete", "other").exit_code == 0
    assert document("bots", "delete", "water", "-y")["deleted"] is True
