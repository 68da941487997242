"""SEC-1, DLG-15, DLV-6, OPS-7: what operators and internal services do with a running stack."""

import asyncio
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from parley.dialog.v1 import dialog_pb2

from parley_client import errors
from parley_client.channel import connect
from parley_client.dialog import DialogClient
from parley_client.tokens import StaticToken
from tests.support.mesh import Mesh, until
from tests.support.person import Person


async def buf_curl(stack: Mesh, service: str, method: str, token: str, data: str = "{}") -> tuple[int, str]:
    url = f"http://{stack.state['addresses'][service]}/{method}"
    headers = ["-H", f"authorization: Bearer {token}"] if token else []
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("buf")), "curl", "--protocol", "grpc", "--http2-prior-knowledge"),
        *headers,
        *("-d", data, url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


async def test_every_process_is_well(stack: Mesh) -> None:
    processes: dict[str, dict[str, Any]] = {}

    async def healthy() -> bool:
        status = await stack.parley_json("status")
        processes.update({one["name"]: one for one in status["processes"]})
        return all(one["healthy"] for one in processes.values())

    await until(healthy, what="healthy processes", explain=lambda: str(processes))  # a probe may be answered late
    assert {"edge", "dialog", "context", "limits", "delivery", "telemetry", "simulator"} <= processes.keys()
    assert all(one["healthy"] and one["pid"] > 0 for one in processes.values())
    found: tuple[object, ...] = ()

    async def well() -> bool:
        nonlocal found
        async with stack.http.get(f"{stack.edge}/health") as response:
            body = await response.json()
        found = (response.status, body["status"], body["postgres"], body["redis"])
        return found == (200, "ok", "ok", "ok")

    await until(well, what="healthy mesh", explain=lambda: str(found))


async def test_without_a_token_nothing_is_answered(stack: Mesh) -> None:
    async with connect(stack.state["addresses"]["dialog"], audience="dialog", tokens=StaticToken("")) as connection:
        with pytest.raises(errors.Unauthenticated) as caught:
            await DialogClient(connection).list_messages(dialog_pb2.ListMessagesRequest(tenant_id="demo"))
    assert caught.value.reason == "INVALID_TOKEN"


async def test_a_service_token_opens_its_own_tenant_only(stack: Mesh) -> None:
    token = (await stack.parley_json("keys", "create", "--scope", "service"))["token"]
    async with connect(stack.state["addresses"]["dialog"], audience="dialog", tokens=StaticToken(token)) as connection:
        client = DialogClient(connection)
        await client.list_messages(dialog_pb2.ListMessagesRequest(tenant_id="demo"))
        with pytest.raises(errors.PermissionDenied) as caught:
            await client.list_messages(dialog_pb2.ListMessagesRequest(tenant_id="other"))
    assert caught.value.reason == "TENANT_NOT_ALLOWED"


@pytest.mark.parametrize(
    ("service", "method", "data"),
    [
        ("dialog", "parley.dialog.v1.BotService/ListBots", '{"tenant_id": "demo"}'),
        ("limits", "parley.limits.v1.LimitsService/ListRules", '{"tenant_id": "demo"}'),
        ("delivery", "parley.delivery.v1.ChannelService/ListChannels", '{"tenant_id": "demo"}'),
    ],
)
async def test_buf_curl_calls_by_reflection_with_a_token(stack: Mesh, service: str, method: str, data: str) -> None:
    token = (await stack.parley_json("keys", "create", "--scope", "service"))["token"]
    code, out = await buf_curl(stack, service, method, token, data)
    assert code == 0, out
    code, out = await buf_curl(stack, service, method, "", data)
    assert code != 0
    assert "unauthenticated" in out.lower()


async def test_a_new_bot_and_channel_work_at_once(stack: Mesh) -> None:
    name = f"shop-{uuid4().hex[:6]}"
    await stack.parley_json("bots", "create", "--id", name, "--flow", "form", "--form", "water-order")
    made = await stack.parley_json(
        *("channels", "create", "--id", name, "--provider", "chat2desk", "--bot", name, "--token", "t0ken"),
        *("--secret", "s3cret-s3cret", "--api-base", f"{stack.simulator}/chat2desk"),
    )
    assert made["webhook_url"].startswith(f"{stack.edge}/webhooks/chat2desk/{name}")
    person = Person(stack, name, "s3cret-s3cret")
    assert await person.say("hi")


async def test_a_changed_bot_answers_anew_and_a_disabled_one_lets_messages_wait(stack: Mesh) -> None:
    name = f"shop-{uuid4().hex[:6]}"
    await stack.parley_json("bots", "create", "--id", name, "--flow", "form", "--form", "water-order")
    await stack.parley_json(
        *("channels", "create", "--id", name, "--provider", "chat2desk", "--bot", name, "--token", "t0ken"),
        *("--secret", "s3cret-s3cret", "--api-base", f"{stack.simulator}/chat2desk"),
    )
    person = Person(stack, name, "s3cret-s3cret")
    await stack.parley_json("bots", "update", name, "--start-message", "Добро пожаловать!")
    assert "Добро пожаловать!" in await person.say("/start")
    await stack.parley_json("bots", "disable", name)
    await person.send("ул. Киевская 120")
    waiting = await stack.parley_json("messages", "show", person.message_ids[-1])
    assert waiting["state"] in ("RECEIVED", "PROCESSING")
    await stack.parley_json("bots", "enable", name)
    assert len(await person.wait_for(2)) == 2


async def test_one_page_shows_the_metrics_of_all_processes_to_who_has_the_token(stack: Mesh) -> None:
    """OPS-4."""
    name = f"shop-{uuid4().hex[:6]}"
    await stack.parley_json("bots", "create", "--id", name, "--flow", "form", "--form", "water-order")
    await stack.parley_json(
        *("channels", "create", "--id", name, "--provider", "chat2desk", "--bot", name, "--token", "t0ken"),
        *("--secret", "s3cret-s3cret", "--api-base", f"{stack.simulator}/chat2desk"),
    )
    assert await Person(stack, name, "s3cret-s3cret").say("привет")
    url, shown = stack.state["urls"]["metrics"], ""
    async with stack.http.get(url) as response:
        assert response.status == 401

    wanted = [
        'parley_dialog_messages{service_name="dialog",state="dead"}',
        'parley_dialog_messages_done_total{service_name="dialog",state="COMPLETED"}',
        'parley_dialog_messages_done_within_total{le="+Inf",service_name="dialog"}',
        'parley_delivery_parts{service_name="delivery",state="waiting"}',
        'parley_delivery_provider_calls_total{outcome="sent",service_name="delivery"}',
        'parley_context_hits_total{level="memory",service_name="context"}',
        'parley_postgres_connections{service_name="dialog",state="idle"}',
        'parley_check_ok{check="postgres",service_name="limits"} 1.0',
    ]
    for service in ("edge", "dialog", "context", "limits", "delivery", "telemetry"):
        wanted += [
            f'parley_up{{service_name="{service}"}} 1.0',
            f'parley_process_memory_bytes{{service_name="{service}"}}',
        ]

    async def complete() -> bool:
        nonlocal shown
        token = (stack.home / "metrics.token").read_text()
        async with stack.http.get(url, headers={"authorization": f"Bearer {token}"}) as response:
            assert response.status == 200
            shown = await response.text()
        return all(line in shown for line in wanted)

    await until(complete, what="a page with everything", explain=lambda: shown)
    made = await stack.parley_json("keys", "create", "--scope", "metrics", "--name", "prometheus", "--days", "90")
    assert (made["scope"], made["tenant_id"]) == ("metrics", "*")
    async with stack.http.get(url, headers={"authorization": f"Bearer {made['key']}"}) as response:
        assert response.status == 200


async def test_a_wrong_command_says_what_to_do(stack: Mesh) -> None:
    code, out, err = await stack.parley("messages", "show", str(uuid4()), "--json")
    assert code != 0
    assert not out
    assert "message" in err.lower()


async def test_a_message_to_a_terminal_bot_can_be_retried_by_an_operator(stack: Mesh) -> None:
    person = f"fail-{uuid4().hex[:8]}"
    fault = {"provider": "openai", "kind": "status", "status": 400, "count": 1, "match": {"text": person}}
    async with stack.http.post(f"{stack.simulator}/faults", json=fault):
        pass
    headers = {"X-API-KEY": stack.demo["api"]["key"]}
    async with stack.http.post(
        f"{stack.edge}/v1/chat/send", json={"user_id": person, "message": person}, headers=headers
    ) as response:
        body = await response.json()
    message_id = body["message_id"]
    shown = await stack.parley_json("messages", "show", message_id)
    assert shown["state"] == "TERMINAL"
    dead = await stack.parley_json("messages", "list", "--state", "terminal")
    assert message_id in [one["id"] for one in items(dead)]
    await stack.parley_json("messages", "retry", message_id)

    async def completed() -> bool:
        return bool((await stack.parley_json("messages", "show", message_id))["state"] == "COMPLETED")

    await until(completed, what="completed message")


async def test_an_order_can_be_held_in_a_terminal(stack: Mesh) -> None:
    lines = "привет\nул. Киевская 120\n0555123456\n2\nда\n"
    code, out, err = await stack.parley("chat", "--bot", "water", stdin=lines)
    assert code == 0, err
    assert "Здравствуйте" in out
    assert "принят" in out


async def test_how_long_a_tenants_data_is_kept_is_shown_and_set(stack: Mesh) -> None:
    before = (await stack.parley_json("tenants", "show", "demo"))["retention"]
    assert (before["messages_days"], before["spans_days"]) == (400, 7)
    changed = await stack.parley_json("tenants", "update", "demo", "--keep-deliveries", "60d", "--keep-traces", "72h")
    assert changed["retention"] == before | {"deliveries_days": 60, "spans_days": 3}
    assert (await stack.parley_json("tenants", "show", "demo"))["retention"] == changed["retention"]


async def test_limits_can_be_changed_while_it_runs(stack: Mesh) -> None:
    await stack.parley_json(
        "limits", "set", "--rule", "chat2desk-rate", "--limit", "100000", "--per", "60", "--channel", "demo-chat2desk"
    )
    shown = await stack.parley_json("limits", "show")
    assert "chat2desk-rate" in str(shown)


async def test_the_doctor_finds_nothing_wrong(stack: Mesh) -> None:
    said = ""

    async def well() -> bool:
        nonlocal said
        code, out, err = await stack.parley("doctor", "--json")
        said = out + err
        return code == 0

    await until(well, what="clean bill", explain=lambda: said)  # a health is that of the last probe


def items(document: Any) -> list[dict[str, Any]]:
    if isinstance(document, list):
        return document
    return next(value for value in document.values() if isinstance(value, list))
