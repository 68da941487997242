"""What the commands send and print."""

import json
import stat
import time
import tomllib
from pathlib import Path

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct

from parley.delivery.v1 import channel_pb2, delivery_pb2
from parley.dialog.v1 import bot_pb2, dialog_pb2, order_pb2, tenant_pb2
from parley.limits.v1 import limits_pb2

from services.runtime.keys import Keys, ensure_keys
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
    assert result.exit_code == 2
    assert all(f"'{state}'" in result.stderr for state in ("received", "processing", "failed", "terminal"))


def test_a_failed_call_is_told_with_reason_fields_and_next_step(stack: Scripted) -> None:
    stack.answers["GetMessage"] = failure(
        grpc.StatusCode.NOT_FOUND, "MESSAGE_NOT_FOUND", "There is no message.", message_id="unknown"
    )
    result = parley("messages", "show", ID)
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


def test_help_offers_what_there_is_and_nothing_else(stack: Scripted) -> None:
    flows = parley("bots", "create", "--help").stdout
    assert "form" in flows and "assistant" in flows
    assert "react" not in flows and "two_stage" not in flows
    assert "telegram" not in parley("channels", "create", "--help").stdout
    assert parley("bots", "create", "--id", "x", "--flow", "react").exit_code == 2
    assert not stack.requests


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


def test_service_tokens_are_made_listed_and_revoked_without_a_stack(home: Path) -> None:
    ensure_keys(home / "keys")
    made = document("keys", "create", "--scope", "service", "--name", "shop", "--days", "90")
    assert made["key"] == made["token"]
    assert (made["name"], made["tenant_id"], made["revoked_at"]) == ("shop", "demo", None)
    listed = parley("keys", "list")
    assert made["id"] in listed.stdout
    assert made["token"] not in listed.stdout
    assert "no stack runs" in listed.stderr
    assert document("keys", "revoke", made["id"])["revoked_at"]
    (row,) = document("keys", "list")
    assert (row["id"], row["scope"]) == (made["id"], "service")
    assert row["revoked_at"]
    assert "token" not in row
    assert document("keys", "list", "--tenant", "other") == []
    assert "90 days" in parley("keys", "create", "--scope", "service", "--days", "91").stderr
    assert "no token" in parley("keys", "revoke", "st_0").stderr


def test_keys_are_rotated_while_no_stack_runs_too(home: Path) -> None:
    before = ensure_keys(home / "keys").private("dialog").private_bytes_raw()
    assert document("keys", "rotate", "dialog") == {"rotated": ["dialog"]}
    assert Keys(home / "keys").private("dialog").private_bytes_raw() != before
    assert "master" in document("keys", "rotate")["rotated"]
    assert "no key 'simulator'" in parley("keys", "rotate", "simulator").stderr


def test_the_list_has_keys_and_tokens(stack: Scripted) -> None:
    key = tenant_pb2.ApiKey(key_id="k1", channel_id="demo-api", name="website")
    stack.answers["ListApiKeys"] = tenant_pb2.ListApiKeysResponse(api_keys=[key])
    (row,) = document("keys", "list")
    assert (row["id"], row["scope"], row["name"], row["last_used_at"]) == ("k1", "chat", "website", None)
    assert "website" in parley("keys", "list").stdout


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


def test_with_json_a_failure_is_one_document_on_standard_error(stack: Scripted) -> None:
    stack.answers["GetMessage"] = failure(
        grpc.StatusCode.NOT_FOUND, "MESSAGE_NOT_FOUND", "There is no message.", message_id="unknown"
    )
    result = parley("messages", "show", ID, "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    error = json.loads(result.stderr)["error"]
    assert (error["code"], error["reason"]) == ("NOT_FOUND", "MESSAGE_NOT_FOUND")
    assert error["fields"] == [{"field": "message_id", "description": "unknown"}]
    assert "messages list" in error["hint"]


def test_with_json_a_wrong_option_is_a_document_too(stack: Scripted) -> None:
    result = parley("messages", "list", "--state", "lost", "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "lost" in json.loads(result.stderr)["error"]["message"]


def test_without_a_stack_json_says_so_in_json(home: Path) -> None:
    assert "no stack runs" in json.loads(parley("status", "--json").stderr)["error"]["message"]


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert parley("--version").stdout == f"parley {project['version']}\n"


def test_a_dead_reply_of_an_answered_message_is_seen_in_the_list(stack: Scripted) -> None:
    """DLV-2: what is given up is never silent."""
    stack.answers["ListMessages"] = dialog_pb2.ListMessagesResponse(messages=[unanswered()])
    shown = parley("messages", "list").stdout
    assert "COMPLETED, reply dead" in shown
    assert "Айгуль" in shown and "Где мой заказ?" in shown
    (row,) = document("messages", "list")
    assert row["text"] == "Где мой заказ?"
    assert [(reply["state"], reply["error"]) for reply in row["replies"]] == [("DEAD", "HTTP 403: blocked")]
    stack.answers["GetMessage"] = dialog_pb2.GetMessageResponse(message=unanswered())
    assert "HTTP 403: blocked" in parley("messages", "show", ID).stdout


def test_retrying_an_answered_message_sends_its_dead_replies_again(stack: Scripted) -> None:
    stack.answers |= {
        "GetMessage": dialog_pb2.GetMessageResponse(message=unanswered()),
        "RetryDelivery": delivery_pb2.RetryDeliveryResponse(),
    }
    assert "sent again: delivery d1" in parley("messages", "retry", ID).stdout
    assert stack.one("RetryDelivery").delivery_id == "d1"
    assert "RetryMessage" not in stack.requests


def unanswered() -> dialog_pb2.Message:
    """Answered, and the reply never arrived."""
    made = message()
    made.content.text = "Где мой заказ?"
    made.sender.display_name = "Айгуль"
    reply = made.replies.add(state=dialog_pb2.REPLY_STATE_DEAD, delivery_id="d1", error="HTTP 403: blocked")
    reply.content.text = "В пути"
    return made


def dead_delivery(delivery_id: str, at: float) -> delivery_pb2.Delivery:
    made = delivery_pb2.Delivery(delivery_id=delivery_id, channel_id="shop")
    made.created_at.FromMilliseconds(int(at * 1000))
    made.content.text = "Ваш заказ"
    part = made.parts.add(state=delivery_pb2.PART_STATE_DEAD, text="Ваш заказ")
    part.attempts.add(number=50, http_status=403, error="HTTP 403: blocked")
    return made


def test_dead_deliveries_are_listed_with_their_reason(stack: Scripted) -> None:
    stack.answers["ListDeliveries"] = delivery_pb2.ListDeliveriesResponse(deliveries=[dead_delivery("d1", time.time())])
    (row,) = document("deliveries", "list", "--state", "dead", "--channel", "shop")
    assert (row["id"], row["state"], row["error"]) == ("d1", "DEAD", "HTTP 403: blocked")
    request = stack.one("ListDeliveries")
    assert (request.part_state, request.channel_id) == (delivery_pb2.PART_STATE_DEAD, "shop")
    assert "HTTP 403: blocked" in parley("deliveries", "list").stdout


def test_dead_deliveries_of_the_last_hour_are_sent_again_after_a_question(stack: Scripted) -> None:
    now = time.time()
    stack.answers |= {
        "ListDeliveries": [
            delivery_pb2.ListDeliveriesResponse(deliveries=[dead_delivery("d3", now)], next_page_token="more"),
            delivery_pb2.ListDeliveriesResponse(
                deliveries=[dead_delivery("d2", now - 60), dead_delivery("d1", now - 7200)]
            ),
        ],
        "RetryDelivery": delivery_pb2.RetryDeliveryResponse(),
    }
    asked = parley("deliveries", "retry", "--since", "1h", "--channel", "shop")
    assert asked.exit_code == 1
    assert "Send 2 dead deliveries again" in asked.stderr and "--yes" in asked.stderr
    assert "RetryDelivery" not in stack.requests
    stack.answers["ListDeliveries"] = delivery_pb2.ListDeliveriesResponse(
        deliveries=[dead_delivery("d3", now), dead_delivery("d2", now - 60)]
    )
    assert "2 of 2" in parley("deliveries", "retry", "--since", "1h", "--yes").stdout
    assert [request.delivery_id for request in stack.requests["RetryDelivery"]] == ["d2", "d3"]
    assert "say which" in parley("deliveries", "retry").stderr


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


def test_a_changed_limit_keeps_its_zone(stack: Scripted) -> None:
    own = daily_rule("demo")
    own.daily_quota.time_zone = "Asia/Bishkek"
    stack.answers |= {
        "ListRules": limits_pb2.ListRulesResponse(rules=[own]),
        "UpdateRule": limits_pb2.UpdateRuleResponse(rule=own),
    }
    document("limits", "set", "--rule", "daily-quota", "--limit", "5", "--per", "24h")
    changed = stack.one("UpdateRule").rule.daily_quota
    assert (changed.limit, changed.time_zone) == (5, "Asia/Bishkek")
    wrong = parley("limits", "set", "--rule", "daily-quota", "--limit", "5", "--zone", "UTC", "--per", "1m")
    assert "counts days" in wrong.stderr


def test_limits_are_taken_back_and_begun_anew(stack: Scripted) -> None:
    own, common = daily_rule("demo"), daily_rule("*")
    stack.answers |= {
        "ListRules": [
            limits_pb2.ListRulesResponse(rules=[common, own]),
            limits_pb2.ListRulesResponse(rules=[common]),
        ],
        "DeleteRule": limits_pb2.DeleteRuleResponse(),
        "DeleteOverride": limits_pb2.DeleteOverrideResponse(rule=own),
        "ResetUsage": limits_pb2.ResetUsageResponse(),
    }
    assert document("limits", "unset", "--rule", "daily-quota")["tenant_id"] == "*"
    assert stack.one("DeleteRule").tenant_id == "demo"
    assert "for every tenant" in parley("limits", "unset", "--rule", "daily-quota").stderr
    document("limits", "unset", "--rule", "daily-quota", "--contact", "c1")
    assert stack.one("DeleteOverride").selector.contact_id == "c1"
    document("limits", "reset", "--rule", "daily-quota", "--contact", "c1")
    assert stack.one("ResetUsage").subject.contact_id == "c1"
    assert "--contact" in parley("limits", "reset", "--rule", "daily-quota").stderr


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


def test_a_delivery_tells_what_came_of_each_attempt(stack: Scripted) -> None:
    delivery = delivery_pb2.Delivery(delivery_id=ID)
    part = delivery.parts.add(state=delivery_pb2.PART_STATE_STARTED, unknown_statuses=2, last_unknown_status="queued")
    part.attempts.add(number=1, http_status=502, failure=delivery_pb2.FAILURE_KIND_RETRYABLE).ended_at.GetCurrentTime()
    failed = part.attempts.add(number=2, failure=delivery_pb2.FAILURE_KIND_TERMINAL, error="gone")
    failed.status = delivery_pb2.PROVIDER_STATUS_FAILED
    part.attempts.add(number=3, http_status=200).ended_at.GetCurrentTime()
    part.attempts.add(number=4)
    stack.answers["GetDelivery"] = delivery_pb2.GetDeliveryResponse(delivery=delivery)
    shown = parley("deliveries", "show", ID).stdout
    for words in (
        "2 statuses in unknown words, last 'queued'",
        "HTTP 502 retryable",
        "gone, reported failed",
        "HTTP 200 sent",
        "under way",
    ):
        assert words in shown


def a_tenant(**days: int) -> tenant_pb2.Tenant:
    kept = {"messages_days": 400, "journal_days": 30, "deliveries_days": 90, "spans_days": 7, "orders_days": 0} | days
    return tenant_pb2.Tenant(
        tenant_id="demo", display_name="Demo", time_zone="Asia/Bishkek", retention=tenant_pb2.Retention(**kept)
    )


def test_a_tenant_shows_for_how_long_its_data_is_kept(stack: Scripted) -> None:
    stack.answers["GetTenant"] = tenant_pb2.GetTenantResponse(tenant=a_tenant())
    shown = document("tenants", "show", "demo")
    assert (shown["id"], shown["time_zone"]) == ("demo", "Asia/Bishkek")
    assert shown["retention"] == {
        "messages_days": 400,
        "journal_days": 30,
        "deliveries_days": 90,
        "spans_days": 7,
        "orders_days": 0,
    }
    lines = dict(line.split("  ", 1) for line in parley("tenants", "show").stdout.splitlines())
    told = {name: value.strip() for name, value in lines.items()}
    assert (told["keeps messages"], told["keeps traces"], told["keeps orders"]) == ("400 days", "7 days", "for ever")


def test_a_tenant_is_made_and_changed_with_days_as_people_write_them(stack: Scripted) -> None:
    stack.answers["CreateTenant"] = tenant_pb2.CreateTenantResponse(tenant=a_tenant(messages_days=90))
    stack.answers["UpdateTenant"] = tenant_pb2.UpdateTenantResponse(tenant=a_tenant(spans_days=3))
    made = document("tenants", "create", "--id", "demo", "--name", "Demo", "--keep-messages", "90d")
    assert made["retention"]["messages_days"] == 90
    created = stack.one("CreateTenant").tenant
    assert created.retention == tenant_pb2.Retention(messages_days=90)
    options = ("--keep-traces", "72h", "--keep-orders", "forever", "--keep-journal", "default")
    assert document("tenants", "update", "demo", *options)["retention"]["spans_days"] == 3
    update = stack.one("UpdateTenant")
    assert sorted(update.update_mask.paths) == [
        "retention.journal_days",
        "retention.orders_days",
        "retention.spans_days",
    ]
    assert update.tenant.retention == tenant_pb2.Retention(spans_days=3, orders_days=0)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--keep-messages", "36h"),
        ("--keep-messages", "30"),
        ("--keep-journal", "0d"),
        ("--keep-deliveries", "40000d"),
        ("--keep-orders", "soon"),
        ("--keep-traces", "forever"),
    ],
)
def test_days_that_cannot_be_kept_are_refused_by_the_options_name(stack: Scripted, option: str, value: str) -> None:
    result = parley("tenants", "update", "demo", option, value)
    assert result.exit_code == 2
    assert option in result.stderr
    assert "UpdateTenant" not in stack.requests


def test_a_tenant_is_changed_in_something(stack: Scripted) -> None:
    assert "nothing to change" in parley("tenants", "update", "demo").stderr
