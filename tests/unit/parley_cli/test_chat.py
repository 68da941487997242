"""`parley chat` with a bot that answers what it is told to."""

import grpc

from parley.delivery.v1 import channel_pb2
from parley.dialog.v1 import bot_pb2, dialog_pb2

from tests.unit.parley_cli.conftest import Scripted, document, failure, parley

API_CHANNEL = channel_pb2.Channel(
    channel_id="cli-water", provider=channel_pb2.PROVIDER_API, bot_id="water", enabled=True
)


def reply(text: str) -> list[dialog_pb2.ChatResponse]:
    """The events of one answered message."""
    final = dialog_pb2.ChatResponse.Final(reply=text, message_id="m1", remaining_today=29)
    final.usage.input_tokens, final.usage.output_tokens = 5, 2
    return [
        dialog_pb2.ChatResponse(accepted=dialog_pb2.ChatResponse.Accepted(message_id="m1")),
        dialog_pb2.ChatResponse(delta=dialog_pb2.ChatResponse.Delta(text=text[:3])),
        dialog_pb2.ChatResponse(final=final),
    ]


def with_channel(stack: Scripted) -> None:
    stack.answers["ListChannels"] = channel_pb2.ListChannelsResponse(channels=[API_CHANNEL])


def test_each_piped_line_is_a_message_and_only_replies_are_printed(stack: Scripted) -> None:
    with_channel(stack)
    stack.answers["Chat"] = [reply("Здравствуйте!"), reply("Адрес?")]
    result = parley("chat", "--bot", "water", stdin="привет\n\nхочу воды\n")
    assert result.exit_code == 0
    assert result.stdout == "Здравствуйте!\nАдрес?\n"
    requests = stack.requests["Chat"]
    assert [request.content.text for request in requests] == ["привет", "хочу воды"]
    assert len({request.sender.identity.value for request in requests}) == 1
    assert len({request.request_id for request in requests}) == 2


def test_json_is_one_document_with_every_exchange(stack: Scripted) -> None:
    with_channel(stack)
    stack.answers["Chat"] = [reply("one"), reply("two")]
    exchanges = document("chat", "--bot", "water", stdin="1\n2\n")
    assert [(one["message"], one["reply"]) for one in exchanges] == [("1", "one"), ("2", "two")]
    assert (exchanges[0]["tokens_used"], exchanges[0]["remaining_today"]) == (7, 29)


def test_a_bot_without_an_api_channel_gets_one(stack: Scripted) -> None:
    stack.answers |= {
        "ListChannels": channel_pb2.ListChannelsResponse(),
        "GetBot": bot_pb2.GetBotResponse(),
        "CreateChannel": channel_pb2.CreateChannelResponse(channel=API_CHANNEL),
        "Chat": [reply("ok")],
    }
    assert parley("chat", "--bot", "water", stdin="hi\n").stdout == "ok\n"
    made = stack.one("CreateChannel").channel
    assert (made.channel_id, made.provider, made.bot_id) == ("cli-water", channel_pb2.PROVIDER_API, "water")


def test_no_channel_is_made_for_a_bot_that_does_not_exist(stack: Scripted) -> None:
    stack.answers |= {
        "ListChannels": channel_pb2.ListChannelsResponse(),
        "GetBot": failure(grpc.StatusCode.NOT_FOUND, "BOT_NOT_FOUND", "There is no bot 'wine'."),
    }
    result = parley("chat", "--bot", "wine", stdin="hi\n")
    assert result.exit_code == 1
    assert "parley bots list" in result.stderr
    assert "CreateChannel" not in stack.requests


def test_a_failed_message_is_told_and_the_next_line_goes_on(stack: Scripted) -> None:
    with_channel(stack)
    refused = failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED", "30 a day are used up.")
    stack.answers["Chat"] = [refused, reply("again")]
    result = parley("chat", "--bot", "water", stdin="1\n2\n")
    assert result.exit_code == 1
    assert result.stdout == "again\n"
    assert "30 a day are used up. [LIMIT_EXCEEDED]" in result.stderr
