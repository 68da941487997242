"""`parley up`, as far as it comes without its services: what it refuses, and how it says so."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.home import AlreadyRunning, Home, read_json, write_json
from deploy.local.ports import PORTS, variable
from deploy.local.server import ServerFailed
from deploy.local.stores import wait_for_given_postgres


@pytest.fixture
def busy() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def up(home: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "deploy.local", "up"]
    ports = {variable(name): "0" for name in PORTS}  # the usual ones may be in use
    given = {**os.environ, "PARLEY_HOME": str(home), **ports, **environment}
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=60, check=False)


def test_a_second_stack_in_the_same_home_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.create()
    write_json(home.stack_file, {"pid": 4711})
    lock = home.lock()
    try:
        result = up(tmp_path)
        with pytest.raises(AlreadyRunning):
            home.lock()
    finally:
        os.close(lock)
    assert result.returncode == 1
    assert "runs already" in result.stderr
    assert "4711" in result.stderr
    assert result.stdout == ""


def test_a_busy_port_is_named_with_its_variable_before_anything_starts(tmp_path: Path, busy: int) -> None:
    result = up(tmp_path, PARLEY_EDGE_PORT=str(busy))
    assert result.returncode == 1
    assert "PARLEY_EDGE_PORT" in result.stderr
    assert not (tmp_path / "postgres").exists()


def test_a_given_postgres_that_refuses_is_told_at_once_and_without_its_password(tmp_path: Path) -> None:
    result = up(tmp_path, PARLEY_DATABASE_URL="postgresql://parley:pa55word@127.0.0.1:port/parley")
    assert result.returncode == 1
    assert "PARLEY_DATABASE_URL" in result.stderr
    assert "pa55word" not in result.stderr
    assert not list((tmp_path / "logs").glob("dialog.log"))


async def test_a_given_postgres_that_is_away_is_waited_for_and_named() -> None:
    told: list[str] = []
    with pytest.raises(ServerFailed, match="PARLEY_DATABASE_URL does not answer") as caught:
        await wait_for_given_postgres("postgresql://parley:pa55word@127.0.0.1:1/parley", told.append, wait_for=0.1)
    assert "embedded" in str(caught.value)
    assert "pa55word" not in f"{caught.value} {told}"
    assert len(told) == 1


def test_everything_in_the_home_is_for_its_owner_only(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.create()
    write_json(home.demo_file, {"secret": "x"})
    assert home.path.stat().st_mode & 0o077 == 0
    assert home.demo_file.stat().st_mode & 0o077 == 0
    assert read_json(home.demo_file) == {"secret": "x"}


def test_a_token_needs_keys_and_says_where_they_come_from(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deploy.local", "token", "--tenant", "demo"]
    given = {**os.environ, "PARLEY_HOME": str(tmp_path)}
    result = subprocess.run(command, env=given, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert "make run" in result.stderr
