"""The Chat2Desk stand-in, its faults, and what it remembers."""

import asyncio
import time

import aiohttp
import pytest
from aiohttp import web

from services.simulator.settings import SimulatorSettings
from services.simulator.wiring import simulating
from tests.support.simulator import Simulator

MESSAGE = {"client_id": "77", "text": "Здравствуйте"}


async def test_a_message_is_taken_and_remembered(simulator: Simulator) -> None:
    status, body = await simulator.send({**MESSAGE, "type": "autoreply", "external_id": "p1"})
    assert (status, body["status"]) == (200, "success")
    assert body["data"]["type"] == "autoreply"
    [call] = await simulator.calls()
    assert call["message_id"] == body["data"]["message_id"]
    assert (call["client_id"], call["text"], call["status"], call["accepted"]) == ("77", "Здравствуйте", 200, True)
    assert call["body"]["external_id"] == "p1"
    assert call["headers"]["authorization"] == "token"


async def test_message_ids_are_never_given_twice(simulator: Simulator) -> None:
    answers = [await simulator.send(MESSAGE) for _ in range(5)]
    assert len({body["data"]["message_id"] for _, body in answers}) == 5


@pytest.mark.parametrize(
    ("body", "token", "status"),
    [
        (MESSAGE, None, 401),
        ({"text": "x"}, "token", 400),
        ({"client_id": "77"}, "token", 400),
        ({"client_id": "77", "text": ""}, "token", 400),
        ([], "token", 400),
        ({"client_id": 77, "attachment": "http://x/y.png"}, "token", 200),
    ],
)
async def test_what_the_real_one_refuses_is_refused(
    simulator: Simulator, body: object, token: str | None, status: int
) -> None:
    assert (await simulator.send(body, token))[0] == status
    assert all(call["accepted"] == (status == 200) for call in await simulator.calls())


async def test_only_told_tokens_are_accepted(simulator: Simulator) -> None:
    await simulator.ask("PUT", "/tokens", {"provider": "chat2desk", "tokens": ["right"]})
    assert (await simulator.send(MESSAGE, "wrong"))[0] == 401
    assert (await simulator.send(MESSAGE, "right"))[0] == 200


async def test_broken_json_is_400(simulator: Simulator) -> None:
    async with simulator.http.post(f"{simulator.url}/chat2desk/v1/messages", data=b"{") as response:
        assert response.status == 400


async def test_calls_are_filtered_and_limited(simulator: Simulator) -> None:
    for number in range(60):
        await simulator.send({"client_id": str(number % 2), "text": f"t{number}"})
    assert len(await simulator.calls(limit=1000)) == 50
    odd = await simulator.calls(client_id="1", limit=3)
    assert [call["text"] for call in odd] == ["t55", "t57", "t59"]
    assert await simulator.calls(since=odd[-1]["id"]) == []
    assert [call["text"] for call in await simulator.calls(since=odd[-1]["id"] - 1)] == ["t59"]
    assert await simulator.calls(provider="openai") == []
    _, health = await simulator.ask("GET", "/health")
    assert health["counts"] == {"chat2desk.accepted": 60}
    assert (await simulator.ask("DELETE", "/calls"))[1] == {"deleted": 50}
    assert await simulator.calls() == []


async def test_calls_can_be_waited_for(simulator: Simulator) -> None:
    waiting = asyncio.create_task(simulator.calls(client_id="77", wait=60, count=2))
    for _ in range(2):
        await simulator.send(MESSAGE)
    assert len(await asyncio.wait_for(waiting, 30)) == 2
    assert await simulator.calls(client_id="nobody", wait=0.05) == []


async def test_status_fault_hits_so_many_times_and_then_stops(simulator: Simulator) -> None:
    await simulator.fault("chat2desk", "status", status=503, retry_after=7, count=2, message="busy")
    assert await simulator.send(MESSAGE) == (503, {"status": "error", "message": "busy"})
    async with simulator.http.post(
        f"{simulator.url}/chat2desk/v1/messages", json=MESSAGE, headers={"Authorization": "t"}
    ) as response:
        assert (response.status, response.headers["retry-after"]) == (503, "7")
    assert (await simulator.send(MESSAGE))[0] == 200
    assert [call["accepted"] for call in await simulator.calls()] == [False, False, True]


async def test_a_fault_can_match_skip_and_be_called_off(simulator: Simulator) -> None:
    await simulator.fault("chat2desk", "status", match={"client_id": "1", "text": "бут"}, skip=1, count=0)
    for client_id, text, status in (
        ("1", "три бут", 200),
        ("2", "три бут", 200),
        ("1", "три", 200),
        ("1", "бут", 500),
        ("1", "бут", 500),
    ):
        assert (await simulator.send({"client_id": client_id, "text": text}))[0] == status
    assert (await simulator.ask("GET", "/faults"))[1]["faults"][0]["hits"] == 2
    await simulator.ask("DELETE", "/faults")
    assert (await simulator.send({"client_id": "1", "text": "бут"}))[0] == 200


async def test_refused_connection_takes_nothing(simulator: Simulator) -> None:
    await simulator.fault("chat2desk", "refuse")
    with pytest.raises(aiohttp.ClientError):
        await simulator.send(MESSAGE)
    [call] = await simulator.calls()
    assert (call["accepted"], call["status"], call["fault"]) == (False, 0, "refuse")
    assert (await simulator.send(MESSAGE))[0] == 200


async def test_dropped_connection_has_taken_the_message(simulator: Simulator) -> None:
    await simulator.fault("chat2desk", "drop_after")
    with pytest.raises(aiohttp.ClientError):
        await simulator.send(MESSAGE)
    [call] = await simulator.calls()
    assert (call["accepted"], call["fault"]) == (True, "drop_after")


async def test_hanging_call_ends_with_the_callers_patience(simulator: Simulator) -> None:
    await simulator.fault("chat2desk", "hang")
    call = asyncio.create_task(simulator.send(MESSAGE))
    assert await simulator.calls(wait=30)  # it has come, so that it is this call that hangs
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call, 0.1)
    assert (await simulator.send(MESSAGE))[0] == 200


async def test_delayed_call_is_answered_later(simulator: Simulator) -> None:
    await simulator.fault("chat2desk", "delay", seconds=0.1)
    before = time.monotonic()
    assert (await simulator.send(MESSAGE))[0] == 200
    assert time.monotonic() - before >= 0.1


@pytest.mark.parametrize(
    "fault",
    [
        {},
        {"provider": "chat2desk", "kind": "explode"},
        {"provider": "nobody", "kind": "hang"},
        {"provider": "chat2desk", "kind": "status", "status": 200},
        {"provider": "chat2desk", "kind": "hang", "seconds": -1},
        {"provider": "chat2desk", "kind": "hang", "match": {"colour": "red"}},
        {"provider": "openai", "kind": "duplicate"},
        {"provider": "chat2desk", "kind": "hang", "times": 3},
    ],
)
async def test_faults_that_make_no_sense_are_refused(simulator: Simulator, fault: object) -> None:
    status, body = await simulator.ask("POST", "/faults", fault)
    assert status == 400
    assert body["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/chat2desk/v1/messages", 405), ("PUT", "/say", 405)],
)
async def test_unknown_routes_say_so(simulator: Simulator, method: str, path: str, status: int) -> None:
    assert (await simulator.ask(method, path))[0] == status


@pytest.mark.parametrize("query", [{"since": "x"}, {"wait": "long"}, {"limit": "many"}])
async def test_parameters_that_are_no_numbers_are_refused(simulator: Simulator, query: dict[str, str]) -> None:
    status, body = await simulator.ask("GET", "/calls", **query)
    assert status == 400
    assert next(iter(query)) in body["error"]


async def test_pipelined_requests_are_answered_in_order(simulator: Simulator) -> None:
    await simulator.fault("chat2desk", "delay", seconds=0.05)
    host, port = simulator.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = b'{"client_id":"1","text":"x"}'
    one = b"POST /chat2desk/v1/messages HTTP/1.1\r\nhost: localhost\r\nauthorization: t\r\ncontent-length: %d\r\n\r\n%s"
    last = b"GET /nowhere HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    writer.write(one % (len(body), body) + last)
    answer = await asyncio.wait_for(reader.read(), 30)
    assert answer.index(b"HTTP/1.1 200 OK") < answer.index(b"HTTP/1.1 404 Not Found")
    writer.close()


async def test_what_is_no_http_or_too_large_is_refused(simulator: Simulator) -> None:
    host, port = simulator.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"hello\r\n\r\n")
    assert b"400 Bad Request" in await asyncio.wait_for(reader.read(), 30)
    writer.close()
    try:
        async with simulator.http.post(f"{simulator.url}/say", data=b"x" * (2 << 20)) as response:
            assert response.status == 413
    except aiohttp.ClientError:
        pass  # it may stop reading before all is written


async def test_a_taken_port_is_told(simulator: Simulator) -> None:
    port = int(simulator.url.rsplit(":", 1)[1])
    with pytest.raises(OSError, match="address"):
        async with simulating(SimulatorSettings(simulator_port=port)):
            pass


async def test_a_person_can_speak_and_hear(simulator: Simulator) -> None:
    """`/say` sends a real hook, twice on command, and gives back what the bot sent meanwhile."""
    hooks: list[dict[str, object]] = []

    async def hook(request: web.Request) -> web.Response:
        hooks.append(await request.json())
        await simulator.send({"client_id": "77", "text": f"ответ {len(hooks)}"})
        return web.json_response({"message_id": "m", "duplicate": len(hooks) > 1})

    app = web.Application()
    app.router.add_post("/webhooks/chat2desk/c", hook)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/webhooks/chat2desk/c?secret=s"
    try:
        await simulator.fault("chat2desk", "duplicate")
        said = {"webhook_url": url, "client_id": 77, "text": "привет", "wait": 30, "phone": "996700123456"}
        status, body = await simulator.ask("POST", "/say", said)
    finally:
        await runner.cleanup()
    assert status == 200
    assert [answer["status"] for answer in body["webhooks"]] == [200, 200]
    assert body["replies"]
    assert hooks[0] == hooks[1]
    assert hooks[0]["type"] == "from_client"
    assert hooks[0]["hook_type"] == "inbox"
    assert hooks[0]["text"] == "привет"
    assert hooks[0]["client"] == {"id": 77, "phone": "996700123456", "name": "Тест"}


async def test_a_webhook_that_nobody_takes_has_status_0(simulator: Simulator) -> None:
    said = {"webhook_url": "http://127.0.0.1:9/", "client_id": 1, "text": "x"}
    _, body = await simulator.ask("POST", "/say", said)
    assert body["webhooks"][0]["status"] == 0
    assert (await simulator.ask("POST", "/say", {**said, "webhook_url": "file:///etc"}))[0] == 400


@pytest.mark.parametrize("path", ["/faults", "/scripts", "/say", "/tokens"])
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_a_web_page_cannot_command_it(simulator: Simulator, path: str, kind: str) -> None:
    """A page of any origin may send these kinds unasked, but no JSON."""
    method = "PUT" if path == "/tokens" else "POST"
    body = b'{"provider": "chat2desk", "kind": "refuse"}'
    async with simulator.http.request(
        method, simulator.url + path, data=body, headers={"Content-Type": kind}
    ) as response:
        assert response.status == 415
        assert not [name for name in response.headers if name.lower().startswith("access-control")]
    assert (await simulator.ask("GET", "/faults"))[1]["faults"] == []


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example:{port}", ""])
async def test_a_name_that_is_not_its_own_reaches_nothing(simulator: Simulator, host: str) -> None:
    """What a page reads whose own name was made to lead here."""
    given = host.format(port=simulator.url.rpartition(":")[2])
    for method, path in (("GET", "/calls"), ("DELETE", "/calls"), ("POST", "/chat2desk/v1/messages")):
        async with simulator.http.request(method, simulator.url + path, headers={"Host": given}) as response:
            assert response.status == 421


@pytest.mark.parametrize("host", ["localhost:{port}", "LOCALHOST", "[::1]:{port}", "127.0.0.1:{port}", "127.0.0.1"])
async def test_its_own_names_are_heard(simulator: Simulator, host: str) -> None:
    given = host.format(port=simulator.url.rpartition(":")[2])
    async with simulator.http.get(simulator.url + "/calls", headers={"Host": given}) as response:
        assert response.status == 200
