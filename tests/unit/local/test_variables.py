"""What `parley doctor` says of the environment."""

import re
import socket
from pathlib import Path

import pytest

from deploy.local.ports import PORTS, variable
from deploy.local.variables import examine, known

ROOT = Path(__file__).parents[3]


def said(**environment: str) -> list[tuple[str, str, str]]:
    found = examine(environment, running=True)
    return [(problem.level, problem.message, problem.todo) for problem in found]


def test_a_misspelled_variable_is_named_with_the_one_that_was_meant() -> None:
    ((level, message, todo),) = said(PARLEY_DATABSE_URL="postgresql://x")
    assert (level, todo) == ("warning", "Did you mean PARLEY_DATABASE_URL?")
    assert "PARLEY_DATABSE_URL" in message
    assert "settings.md" in said(PARLEY_WHATEVER_THAT_IS="1")[0][2]


@pytest.mark.parametrize("given", ["http", "65536"])
def test_what_is_no_port_is_named_with_its_variable(given: str) -> None:
    ((level, message, _),) = said(PARLEY_EDGE_PORT=given)
    assert level == "error"
    assert "PARLEY_EDGE_PORT" in message and given in message


def test_a_busy_port_is_told_unless_the_stack_itself_has_it() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = str(server.getsockname()[1])
        free = {variable(name): "0" for name in PORTS}
        given = free | {"PARLEY_EDGE_PORT": port}
        assert [problem.message for problem in examine(given, running=False)] == [f"{port} for edge is in use"]
        assert not list(examine(given, running=True))


def test_every_variable_that_the_code_names_is_known() -> None:
    folders = (ROOT / "services", ROOT / "deploy", ROOT / "clients")
    code = "".join(path.read_text() for folder in folders for path in folder.rglob("*.py"))
    named = set(re.findall(r"\bPARLEY_[A-Z0-9_]*[A-Z0-9]\b", code))
    assert named <= known()
