"""What `parley keys` sends, writes and prints."""

from pathlib import Path

from parley.delivery.v1 import channel_pb2
from parley.dialog.v1 import tenant_pb2

from services.runtime.keys import Keys, ensure_keys
from tests.unit.parley_cli.conftest import Scripted, channel, document, parley


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
