"""What the commands send and print."""

import json
import stat
from pathlib import Path

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct

from parley.delivery.v1 import channel_pb2, delivery_pb2
from parley.dialog.v1 import bot_pb2, dialog_pb2, order_pb2, tenant_pb2
from parley.limits.v1 import limits_pb2

from tests.unit.parley_cli.conftest import Scripted, document, failure, message, parley

ID = message().message_id


def channel(channel_id: str, provider: channel_pb2.Provider.ValueType, bot: str = "water") -> channel_pb2.Channel:
    return channel_pb2.Channel(
        tenant_id="demo", channel_id=channel_id, provider=provider, bot_id=bot, enabled=True, revision=1
    )


def test_without_a_stack_a_command_says_how_to_start_one(home: Path) -> None:
    result = parley("status", "--json")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "make run" in result.stderr


def test_a_stack_that_died_is_not_taken_for_a_running_one(home: Path) -> None:
    (home / "lock").touch()
    (home / "stack.json").write_text('{"state": "ready", "processes": []}')
    assert "no stack runs" in parley("status").stderr


def test_status_lists_every_process(stack: Scripted) -> None:
    processes = document("status")["processes"]
    assert [(one["name"], one["address"], one["pid"], one["healthy"]) for one in processes] == [
        ("edge", "127.0.0.1:8080", 7, True)
    ]
    assert "healthy" in parley("status").stdout


def test_calls_carry_the_operators_token(stack: Scripted) -> None:
    stack.answers["GetMessage"] = dialog_pb2.GetMessageResponse(message=message())
    parley("messages", "show", ID)
    assert stack.tokens == {"Bearer t0ken"}


def test_messages_have_the_documented_keys(stack: Scripted) -> None:
    stack.answers["ListMessages"] = dialog_pb2.ListMessagesResponse(messages=[message()])
    (shown,) = document("messages", "list", "--state", "completed")
    assert shown["id"] == shown["message_id"] == ID
    assert shown["state"] == "COMPLETED"
    assert shown["attempts"] == 1
    assert shown["received_at"] == "1970-01-01T00:16:40Z"
    assert shown["completed_at"].startswith("1970-01-01T00:16:40.12")
    assert shown["sent_at"] is None
    assert shown["usage"]["input_tokens"] == 7
    assert {"channel_id", "conversation_id"} <= shown.keys()
    assert list(stack.one("ListMessages").states) == [dialog_pb2.MESSAGE_STATE_COMPLETED]


def test_a_state_that_does_not_exist_is_refused_with_those_that_do(stack: Scripted) -> None:
    result = parley("messages", "list", "--state", "lost")
    assert result.exit_code == 1
    assert "RECEIVED, PROCESSING, COMPLETED, FAILED, TERMINAL" in result.stderr


def test_a_failed_call_is_told_with_reason_fields_and_next_step(stack: Scripted) -> None:
    stack.answers["GetMessage"] = failure(
        grpc.StatusCode.NOT_FOUND, "MESSAGE_NOT_FOUND", "There is no message.", message_id="unknown"
    )
    result = parley("messages", "show", ID, "--json")
    assert result.exit_code == 1
    assert result.stdout == ""
    for words in ("There is no message.", "MESSAGE_NOT_FOUND", "message_id: unknown", "parley messages list"):
        assert words in result.stderr


def test_orders_have_whole_numbers_as_such(stack: Scripted) -> None:
    fields = Struct()
    fields.update({"bottles": 3, "address": "Киевская 120"})
    order = order_pb2.Order(order_id="o1", conversation_id="c1", fields=fields)
    order.created_at.GetCurrentTime()
    stack.answers["ListOrders"] = order_pb2.ListOrdersResponse(orders=[order])
    (shown,) = document("orders", "list")
    assert shown["id"] == "o1"
    assert shown["fields"] == {"bottles": 3, "address": "Киевская 120"}
    assert "bottles: 3" in parley("orders", "list").stdout


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
    assert request.channel.api_base == "http://x/chat2desk"
    assert (request.secrets.token, request.secrets.webhook_secret) == ("T", "")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--provider telegram", "not available in this version"),
        ("--provider whatsapp", "not available in this version"),
        ("--provider viber", "Providers are api, chat2desk"),
        ("--provider chat2desk", "needs --token"),
        ("--provider chat2desk --token T --mode polling", "polling is for telegram"),
        ("--provider api --app-secret A", "--app-secret is for whatsapp"),
    ],
)
def test_options_that_do_not_fit_the_provider_are_refused(stack: Scripted, options: str, words: str) -> None:
    result = parley("channels", "create", "--id", "x", "--bot", "water", *options.split())
    assert result.exit_code == 1
    assert words in result.stderr
    assert not stack.requests


def test_a_channels_update_names_only_what_was_given(stack: Scripted) -> None:
    stack.answers["GetChannel"] = channel_pb2.GetChannelResponse(channel=channel("shop", channel_pb2.PROVIDER_API))
    stack.answers["GetBot"] = bot_pb2.GetBotResponse()
    stack.answers["UpdateChannel"] = channel_pb2.UpdateChannelResponse()
    document("channels", "update", "shop", "--bot", "other")
    request = stack.one("UpdateChannel")
    assert list(request.update_mask.paths) == ["bot_id"]
    assert request.channel.bot_id == "other"
    assert "nothing to change" in parley("channels", "update", "shop").stderr


@pytest.mark.parametrize("flow", ["two_stage", "react"])
def test_later_flows_are_not_available_yet(stack: Scripted, flow: str) -> None:
    result = parley("bots", "create", "--id", "x", "--flow", flow)
    assert result.exit_code == 1
    assert "not available in this version" in result.stderr


def test_a_form_of_ones_own_is_read_from_its_file(stack: Scripted, tmp_path: Path) -> None:
    (tmp_path / "form.yaml").write_text("id: own")
    stack.answers["CreateBot"] = bot_pb2.CreateBotResponse()
    for option in ("--form", "--form-file"):
        document("bots", "create", "--id", "own", "--flow", "form", option, str(tmp_path / "form.yaml"))
        assert stack.requests["CreateBot"].pop().bot.form.definition_yaml == "id: own"
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


def daily_rule(tenant: str) -> limits_pb2.Rule:
    return limits_pb2.Rule(
        tenant_id=tenant,
        rule_id="daily-quota",
        resource="model.turn",
        scope=limits_pb2.RULE_SCOPE_CONTACT,
        daily_quota=limits_pb2.DailyQuota(limit=30, time_zone="UTC"),
        failure_mode=limits_pb2.FAILURE_MODE_POSTGRES,
    )


def test_a_rule_of_every_tenant_is_copied_before_one_tenant_changes_it(stack: Scripted) -> None:
    stack.answers |= {
        "ListRules": limits_pb2.ListRulesResponse(rules=[daily_rule("*")]),
        "GetTenant": tenant_pb2.GetTenantResponse(tenant=tenant_pb2.Tenant(time_zone="Asia/Bishkek")),
        "CreateRule": limits_pb2.CreateRuleResponse(rule=daily_rule("demo")),
    }
    document("limits", "set", "--rule", "daily-quota", "--limit", "5", "--per", "86400")
    rule = stack.one("CreateRule").rule
    assert (rule.tenant_id, rule.daily_quota.limit, rule.daily_quota.time_zone) == ("demo", 5, "Asia/Bishkek")


def test_a_tenants_own_rule_is_updated(stack: Scripted) -> None:
    stack.answers |= {
        "ListRules": limits_pb2.ListRulesResponse(rules=[daily_rule("*"), daily_rule("demo")]),
        "UpdateRule": limits_pb2.UpdateRuleResponse(rule=daily_rule("demo")),
    }
    document("limits", "set", "--rule", "daily-quota", "--limit", "5", "--per", "60")
    request = stack.one("UpdateRule")
    assert list(request.update_mask.paths) == ["sliding_window"]
    assert request.rule.sliding_window.window.seconds == 60


def test_a_limit_for_one_channel_is_an_override(stack: Scripted) -> None:
    window = limits_pb2.Rule(tenant_id="*", rule_id="rate", sliding_window=limits_pb2.SlidingWindow(limit=300))
    stack.answers |= {
        "ListRules": limits_pb2.ListRulesResponse(rules=[window]),
        "SetOverride": limits_pb2.SetOverrideResponse(rule=window),
    }
    document(*["limits", "set", "--rule", "rate", "--limit", "9", "--per", "60", "--channel", "shop"])
    override = stack.one("SetOverride").override
    assert (override.selector.channel_id, override.limit, override.window.seconds) == ("shop", 9, 60)
    both = parley("limits", "set", "--rule", "rate", "--limit", "9", "--bot", "a", "--channel", "b")
    assert "exclude each other" in both.stderr
    assert "Rules are rate" in parley("limits", "set", "--rule", "lost", "--limit", "9").stderr


def test_limits_show_prefers_the_tenants_own_rule(stack: Scripted) -> None:
    stack.answers["ListRules"] = limits_pb2.ListRulesResponse(rules=[daily_rule("*"), daily_rule("demo")])
    (shown,) = document("limits", "show")
    assert (shown["tenant_id"], shown["limit"], shown["per"]) == ("demo", 30, 86400)


def test_a_chat_key_is_for_the_tenants_api_channel(stack: Scripted) -> None:
    stack.answers["ListChannels"] = channel_pb2.ListChannelsResponse(
        channels=[channel("demo-api", channel_pb2.PROVIDER_API), channel("cli-water", channel_pb2.PROVIDER_API)]
    )
    stack.answers["CreateApiKey"] = tenant_pb2.CreateApiKeyResponse(
        key="pk_1", api_key=tenant_pb2.ApiKey(key_id="k1", channel_id="demo-api")
    )
    assert document("keys", "create", "--scope", "chat")["key"] == "pk_1"
    assert stack.one("CreateApiKey").channel_id == "demo-api"
    assert parley("keys", "create", "--scope", "chat").stdout == "pk_1\n"
    assert "`chat` and `service`" in parley("keys", "create", "--scope", "admin").stderr


def test_a_chat_key_is_not_made_for_a_messengers_channel(stack: Scripted) -> None:
    shop = channel("shop", channel_pb2.PROVIDER_CHAT2DESK)
    stack.answers["GetChannel"] = channel_pb2.GetChannelResponse(channel=shop)
    assert "not of kind api" in parley("keys", "create", "--scope", "chat", "--channel", "shop").stderr


def test_send_looks_the_conversation_up(stack: Scripted) -> None:
    conversation = dialog_pb2.Conversation(conversation_id="c1", channel_id="shop", chat_id="42")
    stack.answers |= {
        "ListConversations": [
            dialog_pb2.ListConversationsResponse(next_page_token="more"),
            dialog_pb2.ListConversationsResponse(conversations=[conversation]),
        ],
        "BatchSendMessage": delivery_pb2.BatchSendMessageResponse(
            results=[{"response": {"delivery_id": "d1"}}]  # type: ignore[list-item]
        ),
    }
    assert document("send", "c1", "hello")["delivery_id"] == "d1"
    request = stack.one("BatchSendMessage").items[0].request
    assert (request.channel_id, request.chat_id, request.content.text) == ("shop", "42", "hello")


def test_doctor_finds_keys_that_others_can_read(home: Path) -> None:
    (home / "keys").mkdir(mode=0o700)
    (home / "keys" / "master.key").write_bytes(b"x")
    (home / "keys" / "master.key").chmod(0o644)
    result = parley("doctor", "--json")
    findings = {one["name"]: one for one in json.loads(result.stdout)}
    assert result.exit_code == 1
    assert findings["keys"]["level"] == "error"
    assert findings["keys"]["todo"].startswith("chmod go= ")
    assert findings["stack"]["level"] == "warning"
    (home / "keys" / "master.key").chmod(stat.S_IRUSR)
    assert "readable by their owner only" in parley("doctor").stdout


def test_a_new_rule_for_one_bot_binds_that_bot_only(stack: Scripted) -> None:
    burst = limits_pb2.Rule(rule_id="burst", sliding_window=limits_pb2.SlidingWindow(limit=9))
    stack.answers |= {
        "ListRules": limits_pb2.ListRulesResponse(rules=[daily_rule("*")]),
        "CreateRule": limits_pb2.CreateRuleResponse(rule=burst),
        "SetOverride": limits_pb2.SetOverrideResponse(rule=burst),
    }
    command = "limits set --rule burst --limit 2 --per 10 --bot water"
    assert "--resource" in parley(*command.split()).stderr
    shown = document(*command.split(), "--resource", "model.turn")
    made, override = stack.one("CreateRule").rule, stack.one("SetOverride").override
    assert (made.resource, made.scope) == ("model.turn", limits_pb2.RULE_SCOPE_BOT)
    assert made.sliding_window.limit > 1_000_000
    assert (override.selector.bot_id, override.limit, override.window.seconds) == ("water", 2, 10)
    assert (shown["limit"], shown["per"]) == (2, 10)
