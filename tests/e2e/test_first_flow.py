"""docs/how-to/first-flow.md, followed to the letter: its file, its commands, and what they print."""

import asyncio
import re
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from google.protobuf.json_format import MessageToDict

from parley.dialog.v1 import order_pb2

from tests.support.mesh import ROOT, Mesh

PAGE = (ROOT / "docs" / "how-to" / "first-flow.md").read_text(encoding="utf-8")
SIMULATOR = "http://127.0.0.1:8090"
"""Where the page expects the simulator; a stack of tests has it elsewhere."""


class Command(NamedTuple):
    """A command of the page, the lines typed into it, and what it must print; `…` stands for anything."""

    text: str
    typed: str
    printed: str


def commands() -> list[Command]:
    """All commands of the page, in order."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL):
        for text, rest in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            lines = rest.splitlines()
            typed = "".join(f"{line.removeprefix('> ')}\n" for line in lines if line.startswith("> "))
            found.append(Command(text, typed, "\n".join(line for line in lines if not line.startswith("> "))))
    return found


async def run(stack: Mesh, folder: Path, script: str, typed: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", script),
        cwd=folder,
        env=dict(stack.environment),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(typed.encode())
    assert process.returncode == 0, f"{script}: {err.decode()}"
    return out.decode()


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
async def test_a_reader_who_follows_the_page_gets_the_answers(stack: Mesh, tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    form = re.search(r"Save this as `(.*?)`:\n\n```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert form is not None
    (tmp_path / form.group(1)).write_text(form.group(2), encoding="utf-8")
    before = ""
    for command in commands():
        text = command.text.replace(SIMULATOR, stack.simulator)
        if re.match(r"\w+=", text):  # a variable, for the commands that follow
            before += f"{text}\n"
            continue
        out = await run(stack, tmp_path, before + text, command.typed)
        expected = ".*".join(re.escape(part) for part in command.printed.split("…"))
        assert not command.printed or re.fullmatch(expected, out.strip(), re.DOTALL), f"{text} printed {out!r}"
    request = order_pb2.ListOrdersRequest(tenant_id="demo", bot_id="feedback")
    orders = (await stack.orders.list_orders(request)).orders
    assert [MessageToDict(order.fields) for order in orders] == [{"mark": 5.0, "comment": "more chairs"}]
