"""Learn a dialog's right replies: two people hold it when nothing else goes on."""

import asyncio
from collections.abc import Sequence

from tests.benchmarks.script import Expected, Script, Target, client_number, learn
from tests.benchmarks.sink import Sink
from tests.benchmarks.wire import Connections

QUIET = 0.3
"""Seconds without a further reply after which those of a step are complete."""
PATIENCE = 20.0
"""Seconds that an answer may take."""


class RehearsalFailed(RuntimeError):
    """The dialog does not work even slowly. The message has what was answered."""


async def rehearse(lines: Sequence[str], target: Target, sink: Sink, connections: Connections, first: int) -> Script:
    """Let people number `first` and `first + 1` hold the dialog, and return it with what they were told.

    Raises RehearsalFailed.
    """
    heard: dict[int, list[list[str]]] = {client_number(first): [], client_number(first + 1): []}
    arrived = asyncio.Event()

    def on_message(client: int, text: str) -> None:
        if client in heard:
            heard[client][-1].append(text)
        arrived.set()

    sink.on_message = on_message
    spoken = Script(lines, [[Expected("", "", False)] for _ in lines])
    for step in range(len(lines)):
        for client, told in heard.items():
            told.append([])
            body = spoken.hook(step, client, client * 100 + step)
            status, answer = await _post(connections, target.request(body))
            if status != 200:
                raise RehearsalFailed(f"the webhook was answered with {status}: {answer.decode(errors='replace')}")
        while not all(told[-1] for told in heard.values()) or arrived.is_set():
            arrived.clear()
            patience = QUIET if all(told[-1] for told in heard.values()) else PATIENCE
            try:
                await asyncio.wait_for(arrived.wait(), patience)
            except TimeoutError:
                break
        if not all(told[-1] for told in heard.values()):
            raise RehearsalFailed(f"no answer to {lines[step]!r} within {PATIENCE:.0f} s; before that: {heard}")
    try:
        return learn(lines, heard)
    except ValueError as error:
        raise RehearsalFailed(str(error)) from None


async def _post(connections: Connections, data: bytes) -> tuple[int, bytes]:
    answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
    connections.send(data, lambda status, body: answer.set_result((status, body)))
    return await answer
