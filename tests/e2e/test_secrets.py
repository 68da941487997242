"""SEC-2, SEC-4: every process has its own secrets, and keys are replaced while messages come and go."""

import asyncio
import json
import time
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from parley.dialog.v1 import dialog_pb2

from parley_client import errors
from parley_client.channel import connect
from parley_client.dialog import DialogClient
from parley_client.tokens import StaticToken
from tests.support.mesh import Mesh, until
from tests.support.person import Person
from tests.support.stored import tables_with

SERVICES = ("context", "delivery", "dialog", "edge", "limits", "simulator", "telemetry")
by_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="/proc tells what a process was told")


def environment(stack: Mesh, name: str) -> dict[str, str]:
    """The environment that a process was started with."""
    words = Path(f"/proc/{stack.process_of(name)['pid']}/environ").read_bytes().decode().split("\0")
    return dict(word.split("=", 1) for word in words if word)


def seen(stack: Mesh, name: str) -> str:
    """A process's command line and log."""
    process = stack.process_of(name)
    return Path(f"/proc/{process['pid']}/cmdline").read_text() + Path(process["log"]).read_text()


@by_proc
async def test_every_process_has_its_own_secrets(stack: Mesh) -> None:
    told = {name: environment(stack, name) for name in (*SERVICES, "postgres", "redis")}
    assert {name for name, values in told.items() if "OPENAI_API_KEY" in values} == {"dialog"}
    roles = {name: urlsplit(values.get("PARLEY_DATABASE_URL", "")).username for name, values in told.items()}
    owners = ("context", "delivery", "dialog", "limits", "telemetry")
    assert {name: role for name, role in roles.items() if role} == {name: f"parley_{name}" for name in owners}
    masters = {name for name in SERVICES if (Path(told[name]["PARLEY_KEYS_DIR"]) / "master.key").exists()}
    assert masters == {"context", "delivery", "dialog"}
    status = json.dumps(await stack.parley_json("status"))
    secrets = [stack.demo["chat2desk"]["secret"], stack.demo["chat2desk"]["token"], stack.demo["api"]["key"]]
    for name in (*SERVICES, "postgres", "redis"):
        said = seen(stack, name) + status
        assert not [secret for secret in secrets if secret in said]


@by_proc
async def test_what_people_say_is_read_by_nobody_who_has_the_database(stack: Mesh, person: Person) -> None:
    said = f"Секретная улица {time.time_ns()}"
    reply = await person.say(said)
    url = environment(stack, "dialog")["PARLEY_DATABASE_URL"]
    async with asyncpg.create_pool(url.replace("parley_dialog@", "postgres@"), min_size=1, max_size=1) as owner:
        for schema in ("dialog", "delivery", "context", "limits", "telemetry"):
            assert await tables_with(said, owner, schema) == set()
            assert await tables_with(reply, owner, schema) == set()
    connection = await asyncpg.connect(environment(stack, "limits")["PARLEY_DATABASE_URL"])
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.fetch("SELECT request FROM dialog.messages")
    await connection.close()


async def test_all_keys_are_replaced_while_messages_come_and_go(stack: Mesh, person: Person) -> None:
    pids = {name: stack.process_of(name)["pid"] for name in SERVICES}
    talking = True

    async def talk() -> int:
        said = 0
        while talking:
            await person.say("Здравствуйте")
            said += 1
        return said

    conversation = asyncio.create_task(talk())
    for options in ([], ["--now"], []):
        assert "master" in (await stack.parley_json("keys", "rotate", *options))["rotated"]
        await asyncio.sleep(1.5)  # as long as a process may take to notice, and a little more
    talking = False
    assert await conversation > 0
    messages = await stack.parley_json("messages", "list", "--count", "500")
    ours = [message for message in messages if message["id"] in person.message_ids]
    assert len(ours) == len(person.message_ids)
    assert {message["text"] for message in ours} == {"Здравствуйте"}, "old keys open what they have sealed"
    assert {(message["state"], message["attempts"]) for message in ours} == {("COMPLETED", 1)}, "no call was refused"
    assert {name: stack.process_of(name)["pid"] for name in SERVICES} == pids, "nothing was started again"


async def test_a_revoked_service_token_ends_within_seconds(stack: Mesh) -> None:
    made = await stack.parley_json("keys", "create", "--scope", "service", "--name", "shop", "--days", "90")
    tokens = StaticToken(made["token"])
    async with connect(stack.state["addresses"]["dialog"], audience="dialog", tokens=tokens) as connection:
        client = DialogClient(connection)
        request = dialog_pb2.ListMessagesRequest(tenant_id="demo")
        await client.list_messages(request)
        listed = await stack.parley_json("keys", "list")
        assert [row["name"] for row in listed if row["id"] == made["id"]] == ["shop"]
        await stack.parley_json("keys", "revoke", made["id"])

        async def refused() -> bool:
            try:
                await client.list_messages(request)
            except errors.Unauthenticated as error:
                return "revoked" in error.message
            return False

        await until(refused, 5.0, "refusal")
