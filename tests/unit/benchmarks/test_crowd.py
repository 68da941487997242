"""The crowd against a server that does what it is told, over real sockets."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from tests.benchmarks.crowd import Crowd, closed_load, open_load
from tests.benchmarks.script import Expected, Script, Target
from tests.benchmarks.wire import Connections

SCRIPT = Script(["one", "two"], [[Expected("1", "", True)], [Expected("2", "", True), Expected("3", "", True)]])


class Server(asyncio.Protocol):
    """Acknowledges every request; tells `said` what came."""

    def __init__(self, said: Callable[[bytes], int]) -> None:
        self._said = said

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        status = self._said(data)
        self._transport.write(b"HTTP/1.1 %d X\r\ncontent-length: 2\r\n\r\n{}" % status)  # type: ignore[attr-defined]


class Scene:
    def __init__(self) -> None:
        self.status = 200
        self.answers: Callable[[int, int], None] = self.answer
        self.crowd: Crowd

    def said(self, data: bytes) -> int:
        client = int(data.split(b'"client_id":')[1].split(b",")[0])
        step = 0 if b'"text":"one"' in data else 1
        if self.status == 200:
            asyncio.get_running_loop().call_soon(self.answers, client, step)
        return self.status

    def answer(self, client: int, step: int) -> None:
        for text in ("1",) if step == 0 else ("2", "3"):
            self.crowd.replied(client, text)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    server = await asyncio.get_running_loop().create_server(lambda: Server(scene.said), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connections = Connections("127.0.0.1", port)
    scene.crowd = Crowd(SCRIPT, [Target("/", "host", "secret")], connections)
    scene.crowd.measuring = True
    yield scene
    connections.close()
    server.close()


async def run_until(crowd: Crowd, load: Callable[[asyncio.Event], object], dialogs: int) -> None:
    stop = asyncio.Event()
    task = asyncio.ensure_future(load(stop))  # type: ignore[call-overload]
    async with asyncio.timeout(60):
        while crowd.tally.dialogs < dialogs:
            await asyncio.sleep(0.005)
        stop.set()
        await task
        assert await crowd.settle(30)


async def test_a_closed_crowd_counts_every_message_and_dialog(scene: Scene) -> None:
    await run_until(scene.crowd, lambda stop: closed_load(scene.crowd, 3, stop), dialogs=9)
    tally = scene.crowd.tally
    assert tally.sent == tally.acknowledged == tally.answered == len(tally.ack_ms) == len(tally.way_ms)
    assert tally.wrong == []
    assert 2 * tally.dialogs <= tally.answered <= 2 * tally.dialogs + 3


async def test_an_open_crowd_sends_at_its_rate(scene: Scene) -> None:
    await run_until(scene.crowd, lambda stop: open_load(scene.crowd, 400.0, stop), dialogs=20)
    assert scene.crowd.tally.unanswered == 0
    assert len(scene.crowd.tally.late_ms) == scene.crowd.tally.sent


async def test_a_reply_out_of_order_is_noticed(scene: Scene) -> None:
    def backwards(client: int, step: int) -> None:
        for text in ("1",) if step == 0 else ("3", "2"):
            scene.crowd.replied(client, text)

    scene.answers = backwards
    await run_until(scene.crowd, lambda stop: closed_load(scene.crowd, 1, stop), dialogs=1)
    assert any("step 1, reply 0: '3'" in text for text in scene.crowd.tally.wrong)


async def test_a_reply_sent_twice_is_noticed(scene: Scene) -> None:
    def twice(client: int, step: int) -> None:
        scene.answer(client, step)
        scene.crowd.replied(client, "1")

    scene.answers = twice
    await run_until(scene.crowd, lambda stop: closed_load(scene.crowd, 1, stop), dialogs=1)
    assert scene.crowd.tally.wrong


async def test_a_refused_webhook_is_sent_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.benchmarks.crowd.RESEND_AFTER", 0.01)
    scene.status = 503

    async def take_it_at_last() -> None:
        while not scene.crowd.tally.refused[503]:
            await asyncio.sleep(0.005)
        scene.status = 200

    recovery = asyncio.create_task(take_it_at_last())
    await run_until(scene.crowd, lambda stop: closed_load(scene.crowd, 1, stop), dialogs=1)
    await recovery
    assert scene.crowd.tally.refused[503] >= 1
    assert scene.crowd.tally.unanswered == 0
