"""The scripts in clients/examples, as docs/how-to/client.md shows them, against a running stack."""

import asyncio
import sys
from uuid import uuid4

import pytest

from tests.support.mesh import ROOT, Mesh

EXAMPLES = ROOT / "clients" / "examples"


@pytest.fixture
async def token(stack: Mesh) -> str:
    made = await stack.parley_json("keys", "create", "--scope", "service", "--name", "examples")
    return str(made["token"])


async def run(stack: Mesh, token: str, script: str, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / script),
        *arguments,
        env={**stack.environment, "PARLEY_DIALOG_ADDRESS": stack.state["addresses"]["dialog"], "PARLEY_TOKEN": token},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


@pytest.mark.parametrize("script", ["ask.py", "bots.py"])
def test_the_page_shows_the_script(script: str) -> None:
    page = (ROOT / "docs" / "how-to" / "client.md").read_text(encoding="utf-8")
    _, _, code = (EXAMPLES / script).read_text(encoding="utf-8").partition('"""\n\n')
    assert f"```python\n{code}```" in page


async def test_a_script_of_fifteen_lines_asks_a_bot(stack: Mesh, token: str) -> None:
    code, out, err = await run(stack, token, "ask.py", "demo-api", "assistant", f"ask-{uuid4().hex[:8]}", "Hello?")
    assert code == 0, err
    assert out.strip(), "the assistant's reply"


async def test_the_awaiting_script_lists_bots_and_names_a_refusal(stack: Mesh, token: str) -> None:
    code, out, err = await run(stack, token, "bots.py", "demo")
    assert code == 0, err
    assert {"water", "assistant"} <= set(out.split())
    code, out, err = await run(stack, token, "bots.py", "other")
    assert (code, out) == (1, "")
    assert err.startswith("TENANT_NOT_ALLOWED: ")
