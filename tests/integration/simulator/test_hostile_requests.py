"""Whatever a request to the simulator holds, the answer says what is wrong with it, and is never 500."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from services.simulator.bodies import DEEPEST
from services.simulator.settings import SimulatorSettings
from services.simulator.wiring import simulating
from tests.support.simulator import Simulator

Ask = Callable[[str, str, bytes], tuple[int, Any]]

SEND, CREATE = "/chat2desk/v1/messages", "/openai/v1/responses"
ROUTES = [
    ("POST", SEND),
    ("POST", CREATE),
    ("GET", "/calls"),
    ("POST", "/faults"),
    ("POST", "/scripts"),
    ("PUT", "/tokens"),
    ("POST", "/say"),
]
BODIES = [(method, path) for method, path in ROUTES if method != "GET"]
HEADERS = {"content-type": "application/json", "authorization": "Bearer token"}
NOWHERE = "http://127.0.0.1:9/"


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    """Asks a simulator that runs for all tests of this module: a method, an address and a body."""
    loop = asyncio.new_event_loop()
    stack = AsyncExitStack()

    async def start() -> tuple[str, aiohttp.ClientSession]:
        told = SimulatorSettings(simulator_port=0, simulator_calls=20, drain_seconds=0.1)
        url = await stack.enter_async_context(simulating(told))
        return url, await stack.enter_async_context(aiohttp.ClientSession(headers=HEADERS))

    url, http = loop.run_until_complete(start())

    async def one(method: str, path: str, body: bytes) -> tuple[int, Any]:
        async with http.request(method, url + path, data=body) as response:
            answer = await response.read()
            streams = response.content_type == "text/event-stream"
            return response.status, None if streams else json.loads(answer)

    def asked(method: str, path: str, body: bytes) -> tuple[int, Any]:
        return loop.run_until_complete(asyncio.wait_for(one(method, path, body), 30))

    yield asked
    loop.run_until_complete(stack.aclose())
    loop.close()


@pytest.mark.parametrize(("method", "path"), BODIES)
@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'{"text": "\xff"}', "UTF-8"),
        (b'{"text": "\xed\xa0\x80"}', "UTF-8"),
        (b"[" * 100_000 + b"]" * 100_000, "deep"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "deep"),
        (b'[{"a":' * 900 + b"1" + b"}]" * 900, "deep"),
        (b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1), "deep"),
        (b'{"text": "one', "JSON"),
        (b"", "JSON"),
    ],
)
async def test_what_cannot_be_read_is_refused_with_its_fault(
    simulator: Simulator, method: str, path: str, body: bytes, named: str
) -> None:
    async with simulator.http.request(method, simulator.url + path, data=body, headers=HEADERS) as response:
        assert response.status == 400
        assert named in str(await response.json())


async def test_brackets_in_texts_are_not_deep(simulator: Simulator) -> None:
    status, _ = await simulator.send({"client_id": 1, "text": '[{\\"' * 1000})
    assert status == 200


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/scripts", {"regex": "a{99999999999999999999}"}, "regex"),
        ("/scripts", {"regex": "(" * 5000 + ")" * 5000}, "regex"),
        ("/scripts", {"seconds_per_piece": 1e300}, "seconds_per_piece"),
        ("/say", {"webhook_url": NOWHERE, "client_id": 1, "copies": 10**9}, "copies"),
        ("/faults", {"provider": "openai", "kind": "delay", "seconds": 1e300}, "seconds"),
    ],
)
async def test_what_makes_no_sense_is_refused_with_its_key(
    simulator: Simulator, path: str, body: dict[str, Any], named: str
) -> None:
    status, answer = await simulator.ask("POST", path, body)
    assert status == 400
    assert named in answer["error"]


NUMBERS = st.one_of(
    st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([2**63, 2**64, 10**400, -(10**25)])
)
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=20))
KEYS = st.sampled_from(
    [
        "attachment",
        "attachments",
        "channel_id",
        "client_id",
        "contains",
        "content",
        "copies",
        "count",
        "error_code",
        "hook_type",
        "incomplete",
        "input",
        "instructions",
        "kind",
        "match",
        "max_output_tokens",
        "message",
        "message_id",
        "model",
        "name",
        "output",
        "phone",
        "provider",
        "refusal",
        "regex",
        "reply",
        "role",
        "retry_after",
        "seconds_per_piece",
        "skip",
        "status",
        "stream",
        "text",
        "tokens",
        "tools",
        "type",
        "webhook_url",
    ]
)
"""Keys that a route knows, but those that say how long to wait."""
WORDS = st.sampled_from(["chat2desk", "openai", "status", "refuse", "duplicate", "user", "(", "[", NOWHERE, "http://["])
VALUES = st.recursive(
    LEAVES | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=6),
    max_leaves=12,
)
QUERIES = st.dictionaries(
    st.sampled_from(["provider", "client_id", "since", "accepted", "limit", "count"]),
    st.sampled_from(["", "x", "0", "-1", "nan", "inf", "9" * 5000, "é", "\0", "true"]) | st.text(max_size=5),
)
GOOD: dict[str, dict[str, Any]] = {
    SEND: {"client_id": 1, "text": "hello"},
    CREATE: {"model": "m", "input": "hello"},
    "/faults": {"provider": "openai", "kind": "status"},
    "/scripts": {"reply": "hello"},
    "/tokens": {"provider": "openai", "tokens": []},
    "/say": {"webhook_url": NOWHERE, "client_id": 1},
}


def spoil(body: Any, path: str, spoiled: Any) -> Any:
    """A good body of the route with other values in it, or another one altogether."""
    return {**GOOD[path], **body} if spoiled and isinstance(body, dict) else body


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(route=st.sampled_from(BODIES), body=VALUES, spoiled=st.booleans())
@example(route=("POST", SEND), body={"client_id": 10**400, "text": "x"}, spoiled=True)
@example(route=("POST", CREATE), body={"max_output_tokens": 10**400, "input": "x" * 100}, spoiled=True)
def test_no_json_is_a_fault_of_the_simulators(ask: Ask, route: tuple[str, str], body: Any, spoiled: bool) -> None:
    method, path = route
    status, answer = ask(method, path, dumps(spoil(body, path, spoiled)))
    assert status < 500 or "simulated" in str(answer).lower(), answer
    assert ask("GET", "/calls?limit=5", b"")[0] == 200, "what was taken can be shown"
    for shown in ("/faults", "/scripts"):
        assert ask("GET", shown, b"")[0] == 200
        assert ask("DELETE", shown, b"")[0] == 200
    for provider in ("chat2desk", "openai"):
        assert ask("PUT", "/tokens", dumps({"provider": provider}))[0] == 200


def dumps(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


@settings(max_examples=200, deadline=None)
@given(route=st.sampled_from(BODIES), body=st.binary(max_size=60))
@example(route=("POST", SEND), body=b'{"client_id": ' + b"9" * 5000 + b"}")
@example(route=("POST", CREATE), body=b'{"input": "x", "model": ' + b"9" * 5000 + b"}")
@example(route=("POST", CREATE), body=b'{"input": "x", "model": 1e999}')
def test_no_bytes_are_a_fault_of_the_simulators(ask: Ask, route: tuple[str, str], body: bytes) -> None:
    assert ask(*route, body)[0] < 500


@settings(max_examples=100, deadline=None)
@given(query=QUERIES)
def test_no_query_is_a_fault_of_the_simulators(ask: Ask, query: dict[str, str]) -> None:
    assert ask("GET", f"/calls?{urlencode(query, errors='surrogatepass')}", b"")[0] < 500
