"""The process dies at each point between two steps; the next one goes on, and says what it cannot know."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import pytest

from parley.delivery.v1 import delivery_pb2

from deploy.local.embedded import EmbeddedPostgres
from parley_client.delivery import DeliveryClient
from parley_client.errors import CallError
from tests.integration.delivery.conftest import SENT, Call, Delivery, World, message, until
from tests.integration.delivery.test_statuses import status

ROOT = Path(__file__).parents[3]


class Process:
    """`python -m services.delivery` on the test's stores."""

    def __init__(self, world: World, **environment: str) -> None:
        settings = world.settings(drain_seconds=30.0, **environment)
        names = type(settings).model_fields
        self._environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}:{ROOT / 'clients'}",
            **{f"PARLEY_{name.upper()}": _text(getattr(settings, name)) for name in names if name != "otlp_endpoint"},
            "PARLEY_KEYS_DIR": str(settings.keys_dir),
            "PARLEY_CRASH_FOLDER": str(settings.home / "armed"),
        }
        self._armed = settings.home / "armed"
        self._environment.pop("PARLEY_KEYS_DIR_OVERRIDE", None)
        self.process: asyncio.subprocess.Process | None = None
        self.address = ""
        self.stopping = asyncio.Event()

    async def start(self, crash_at: str = "", **environment: str) -> None:
        if crash_at:
            await asyncio.to_thread(self._arm, crash_at)
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.delivery",
            cwd=ROOT,
            env={
                **self._environment,
                "PARLEY_DELIVERY_PORT": "0",
                **environment,
            },
            stdout=asyncio.subprocess.PIPE,
        )
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            if b'"serving"' in line:
                self.address = line.split(b'"address": "')[1].split(b'"')[0].decode()
                break
        self._reading = asyncio.create_task(self._read(self.process.stdout))

    async def _read(self, output: asyncio.StreamReader) -> None:
        async for line in output:
            if b'"stopping"' in line:
                self.stopping.set()

    def _arm(self, point: str) -> None:
        self._armed.mkdir(exist_ok=True)
        (self._armed / point).touch()

    async def died(self) -> int:
        assert self.process is not None
        return await asyncio.wait_for(self.process.wait(), 60)

    async def stop(self) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await self.died()


def _text(value: object) -> str:
    return str(getattr(value, "value", value))


async def leases_run_out(world: World) -> None:
    """Those of a process that died; they are long, so that no living process loses one on a busy machine."""
    connection = await asyncpg.connect(world.settings().database_url)
    past = "now() - interval '1 second'"
    await connection.execute(
        f"UPDATE delivery.lanes SET lease_until = {past}, due_at = {past} WHERE lease_until IS NOT NULL"
    )
    await connection.close()


@asynccontextmanager
async def started(world: World, crash_at: str = "") -> AsyncIterator[Delivery]:
    process = Process(world)
    await process.start(crash_at)
    try:
        async with AsyncExitStack() as stack:
            yield Delivery(world, process.address, stack)
    finally:
        await process.stop()


@pytest.mark.parametrize(
    ("point", "texts", "possibly_duplicate"),
    [
        ("delivery.after_stored", ["text"], False),
        ("delivery.after_claim", ["text"], False),
        ("delivery.after_started", ["text"], True),
        ("delivery.after_call", ["text", "text"], True),
        ("delivery.after_record", ["text"], False),
        ("delivery.after_told", ["text"], False),
    ],
)
async def test_after_a_crash_the_next_process_goes_on(
    world: World, point: str, texts: list[str], possibly_duplicate: bool
) -> None:
    process = Process(world)
    await process.start(crash_at=point)
    request = message("text")
    async with AsyncExitStack() as stack:
        dying = Delivery(world, process.address, stack)
        await dying.create_channel()
        try:
            await dying.client.send_message(request, timeout=30.0)
        except CallError:
            assert point == "delivery.after_stored"
        assert await process.died() == -signal.SIGKILL
    await leases_run_out(world)
    async with started(world) as delivery:
        answer = await delivery.client.send_message(request)
        assert answer.duplicate
        sent = await delivery.until_state(answer.delivery_id, SENT)
        assert world.receiver.texts() == texts
        assert sent.parts[0].possibly_duplicate == possibly_duplicate
        await until(lambda: "SENT" in world.dialog.states(answer.delivery_id))
        after = await delivery.client.send_message(message("after"))
        await delivery.until_state(after.delivery_id, SENT)


async def test_a_death_between_storing_and_sending_what_was_begun_by_being_stored(world: World) -> None:
    """DLV-2. Much is sent until there are slots in hand and a lane is handed over, whenever that is."""
    process = Process(world)
    await process.start(crash_at="delivery.after_hot_store")
    requests: list[delivery_pb2.SendMessageRequest] = []

    async def write(client: DeliveryClient, name: str) -> None:
        with suppress(CallError):
            for number in range(10_000):
                requests.append(message(f"{name} {number}", chat=f"{name}-{number}"))
                await client.send_message(requests[-1], timeout=30.0)

    async with AsyncExitStack() as stack:
        dying = Delivery(world, process.address, stack)
        await dying.create_channel()
        people = [asyncio.create_task(write(dying.client, f"writer-{number}")) for number in range(8)]
        assert await process.died() == -signal.SIGKILL
        for person in people:
            person.cancel()
        await asyncio.gather(*people, return_exceptions=True)
    await leases_run_out(world)
    async with started(world) as delivery:
        client = delivery.client
        answers = await asyncio.gather(*(client.send_message(request, timeout=30.0) for request in requests))
        sent = [await delivery.until_state(answer.delivery_id, SENT) for answer in answers]
    assert {request.content.text for request in requests} == set(world.receiver.texts())
    assert any(each.parts[0].possibly_duplicate for each in sent)


async def test_a_call_that_was_never_made_is_told_apart_by_its_missing_end(world: World) -> None:
    process = Process(world)
    await process.start(crash_at="delivery.after_started")
    async with AsyncExitStack() as stack:
        dying = Delivery(world, process.address, stack)
        await dying.create_channel()
        answer = await dying.client.send_message(message("text"))
        await process.died()
    await leases_run_out(world)
    async with started(world) as delivery:
        sent = await delivery.until_state(answer.delivery_id, SENT)
        first, second = sent.parts[0].attempts
        assert first.failure == delivery_pb2.FAILURE_KIND_UNKNOWN_OUTCOME
        assert not first.HasField("ended_at")
        assert second.http_status == 200


async def test_what_the_provider_delivered_before_a_crash_is_not_sent_again(world: World) -> None:
    process = Process(world)
    await process.start(crash_at="delivery.after_call")
    async with AsyncExitStack() as stack:
        dying = Delivery(world, process.address, stack)
        await dying.create_channel()

        async def deliver(call: Call) -> object:
            world.receiver.answer = None
            report = status("77", delivery_pb2.PROVIDER_STATUS_DELIVERED, external_id=call.body["external_id"])
            await dying.as_("edge")[0].report_status(report)
            return world.receiver.ok()

        world.receiver.answer = deliver  # type: ignore[assignment]
        answer = await dying.client.send_message(message("text"))
        await process.died()
    await leases_run_out(world)
    connection = await asyncpg.connect(world.settings().database_url)
    await connection.execute("UPDATE delivery.statuses SET received_at = received_at - interval '10 minutes'")
    await connection.close()
    async with started(world) as delivery:
        sent = await delivery.until_state(answer.delivery_id, SENT)
        assert not sent.parts[0].possibly_duplicate
        assert len(sent.parts[0].attempts) == 1
        assert sent.HasField("delivered_at")
        await until(lambda: world.dialog.states(answer.delivery_id) == ["SENT", "DELIVERED"])
    assert world.receiver.texts() == ["text"]


async def test_told_to_stop_it_finishes_its_call_and_lets_the_rest_go(world: World) -> None:
    process = Process(world)
    await process.start()
    release = asyncio.Event()

    async def slow(call: Call) -> object:
        await release.wait()
        return world.receiver.ok()

    world.receiver.answer = slow  # type: ignore[assignment]
    async with AsyncExitStack() as stack:
        delivery = Delivery(world, process.address, stack)
        await delivery.create_channel()
        first = await delivery.client.send_message(message("first"))
        second = await delivery.client.send_message(message("second"))
        await until(lambda: world.receiver.calls)
        assert process.process is not None
        process.process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.stopping.wait(), 30)
        release.set()
        assert await process.died() == 0
    world.receiver.answer = None
    async with started(world) as delivery:
        sent = await delivery.until_state(first.delivery_id, SENT)
        assert [attempt.http_status for attempt in sent.parts[0].attempts] == [200]
        await delivery.until_state(second.delivery_id, SENT)  # it was let go: its lease would have lasted for a minute
    assert world.receiver.texts() == ["first", "second"]


async def test_a_worker_that_was_stopped_for_long_sends_nothing_twice_knowingly(world: World) -> None:
    """SIGSTOP for longer than the lease: another worker goes on, and the first one finds its lease lost."""
    process = Process(world)
    await process.start(PARLEY_DELIVERY_LEASE_SECONDS="2.0", PARLEY_DELIVERY_TIMEOUT_SECONDS="2.0")
    async with AsyncExitStack() as stack:
        first = Delivery(world, process.address, stack)
        await first.create_channel()
        stopped = process.process
        assert stopped is not None

        stored = asyncio.Event()

        async def stop_worker(call: Call) -> object:
            await stored.wait()
            world.receiver.answer = None
            stopped.send_signal(signal.SIGSTOP)
            return world.receiver.ok()

        world.receiver.answer = stop_worker  # type: ignore[assignment]
        answer = await first.client.send_message(message("text"))
        stored.set()
        await until(lambda: world.receiver.answer is None)
        async with started(world) as second:
            sent = await second.until_state(answer.delivery_id, SENT)
            assert sent.parts[0].possibly_duplicate
            stopped.send_signal(signal.SIGCONT)
            after = await second.client.send_message(message("after"))
            await second.until_state(after.delivery_id, SENT)
            [part] = (await second.get(answer.delivery_id)).parts
            assert (part.state, part.provider_message_id) == (SENT, sent.parts[0].provider_message_id)
            assert [attempt.number for attempt in part.attempts] == [1, 2]
            assert await process.stop() == 0
    assert world.receiver.texts() == ["text", "text", "after"]


async def test_a_restart_of_postgres_delays_and_loses_nothing(world: World, tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "own", durable=True)
    server.start()
    try:
        # What was stored as leased, and whose answer PostgreSQL took along, waits until its lease has run out.
        settings = {"database_url": server.url_of("postgres"), "drain_seconds": 8.0, "delivery_lease_seconds": 10.0}
        async with world.serving(**settings) as delivery:
            await delivery.create_channel()
            client = delivery.client
            acknowledged = []

            async def talk(chat: int) -> None:
                for number in range(15):
                    request = message(f"{number}", chat=f"chat-{chat}")
                    async with asyncio.timeout(40):
                        while True:
                            try:
                                answer = await client.send_message(request)
                                break
                            except CallError:
                                await asyncio.sleep(0.2)
                    acknowledged.append(answer.delivery_id)

            talking = asyncio.gather(*[talk(chat) for chat in range(6)])
            await until(lambda: len(acknowledged) > 20)
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)
            await talking
            for delivery_id in acknowledged:
                await delivery.until_state(delivery_id, SENT, seconds=60)
            for chat in range(6):
                texts = list(dict.fromkeys(world.receiver.texts(f"chat-{chat}")))
                assert texts == [str(number) for number in range(15)]
            await until(lambda: {told.delivery_id for told in world.dialog.told} == set(acknowledged))
    finally:
        await asyncio.to_thread(server.stop)
