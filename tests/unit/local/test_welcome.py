"""What `make run` prints is to be pasted as it stands."""

import json
import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from deploy.local import welcome
from deploy.local.home import ROOT

DEMO = {"chat2desk": {"channel_id": "demo-chat2desk", "secret": "s-1"}, "api": {"key": "pk_1"}}


def stack(home: str = str(ROOT / ".parley")) -> Mapping[str, Any]:
    return {"urls": {"edge": "http://127.0.0.1:8080"}, "home": home}


def commands(home: str = str(ROOT / ".parley")) -> list[str]:
    return [command for _, command in welcome.commands(stack(home), DEMO)]


def test_every_command_is_whole_and_one_line() -> None:
    chat, hook, ask, trace = commands()
    for command in (chat, hook, ask, trace):
        assert "\n" not in command and not re.search(r"<\w+>|\$[A-Z]", command)
        subprocess.run(["sh", "-n", "-c", command], check=True)
    assert "secret=s-1" in hook and "X-API-KEY: pk_1" in ask
    for command in (hook, ask):
        assert json.loads(shlex.split(command)[-1])


def test_the_command_line_is_found_from_any_folder_and_of_any_stack() -> None:
    assert Path(shlex.split(commands()[0])[0]).is_absolute()
    first = shlex.split(commands("/tmp/my stack")[0])
    assert first[0] == "PARLEY_HOME=/tmp/my stack" and first[1].endswith("/parley")
    assert commands("/tmp/my stack")[-1].count("PARLEY_HOME=") == 2


def test_no_two_examples_share_an_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one would be a duplicate of the first, and nobody would answer it."""
    ids = []
    for now in (1_800_000_000.0, 1_800_000_001.0):
        monkeypatch.setattr("time.time", lambda now=now: now)
        ids.append(json.loads(shlex.split(commands()[1])[-1])["message_id"])
    for page in ("README.md", "docs/quickstart.md"):
        ids += [int(found) for found in re.findall(r'"message_id": (\d+)', (ROOT / page).read_text())]
    assert len(ids) == len(set(ids)) >= 3
