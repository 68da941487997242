"""Holds conversations that are written in YAML, with a bot behind any driver.

A file is a list of conversations: `title`, and `says`, a list of

    say: what the person writes
    copies: how often the provider delivers it (1)
    reply: what the bot must answer, once: {exact: text} {contains: text or list} {matches: regular expression}
    step, slots: where the dialog must stand then
    orders: all orders of the conversation then, oldest first

Only what a line names is checked, and that each message gets exactly one reply.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

FOLDER = Path(__file__).parent
_KEYS = {"say", "copies", "reply", "step", "slots", "orders"}
_REPLY_KEYS = {"exact", "contains", "matches"}


class Driver(Protocol):
    """A way to talk to a bot as a person who has never written before."""

    async def say(self, text: str, copies: int) -> Sequence[str]:
        """Delivers a message `copies` times and returns the replies to it."""

    async def standing(self, step: str | None) -> tuple[str, Mapping[str, Any]]:
        """Returns the dialog's step and slots. A driver that sees them late waits for this step."""

    async def orders(self) -> Sequence[Mapping[str, Any]]:
        """Returns the fields of the conversation's orders, oldest first."""


@dataclass(frozen=True)
class Line:
    """A message and what must follow from it. None is not checked."""

    say: str
    copies: int = 1
    reply: Mapping[str, Any] | None = None
    step: str | None = None
    slots: Mapping[str, Any] | None = None
    orders: Sequence[Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class Conversation:
    """A conversation in a file."""

    file: str
    title: str
    lines: Sequence[Line]

    def __str__(self) -> str:
        return f"{self.file}: {self.title}"


def load(folder: str) -> list[Conversation]:
    """Loads all conversations with a bot. Raises ValueError with file, title and line for unknown keys."""
    found = []
    for path in sorted((FOLDER / folder).glob("*.yaml")):
        for entry in yaml.safe_load(path.read_text(encoding="utf-8")):
            where = f"{path.name}: {entry.get('title')}"
            if entry.keys() != {"title", "says"}:
                raise ValueError(f"{where}: needs title and says, nothing else")
            lines = [_line(line, f"{where}, line {at}") for at, line in enumerate(entry["says"], 1)]
            found.append(Conversation(path.stem, entry["title"], lines))
    return found


def _line(given: Mapping[str, Any], where: str) -> Line:
    unknown = given.keys() - _KEYS | (given.get("reply") or {}).keys() - _REPLY_KEYS
    if unknown:
        raise ValueError(f"{where}: {', '.join(sorted(unknown))} is not known")
    if not isinstance(given.get("say"), str):
        raise ValueError(f"{where}: say must be a text; quote numbers, yes and no")
    return Line(**given)


async def hold(conversation: Conversation, driver: Driver) -> None:
    """Says every line and checks what follows. Raises AssertionError, which names the line."""
    for at, line in enumerate(conversation.lines, 1):
        where = f"{conversation}, line {at} ({line.say!r})"
        replies = await driver.say(line.say, line.copies)
        assert len(replies) == 1, f"{where}: {len(replies)} replies: {replies}"
        check_reply(where, replies[0], line.reply or {})
        if line.step is not None or line.slots is not None:
            step, slots = await driver.standing(line.step)
            assert line.step in (None, step), f"{where}: at {step}, not {line.step}"
            assert line.slots is None or slots == line.slots, f"{where}: slots are {slots}"
        if line.orders is not None:
            orders = [dict(order) for order in await driver.orders()]
            assert orders == line.orders, f"{where}: orders are {orders}"


def check_reply(where: str, reply: str, expected: Mapping[str, Any]) -> None:
    """Raises AssertionError unless the reply is as expected."""
    if "exact" in expected:
        assert reply == expected["exact"], f"{where}: replied {reply!r}"
    wanted = expected.get("contains", [])
    for part in [wanted] if isinstance(wanted, str) else wanted:
        assert part in reply, f"{where}: no {part!r} in {reply!r}"
    if "matches" in expected:
        assert re.search(expected["matches"], reply), f"{where}: {reply!r} does not match"
