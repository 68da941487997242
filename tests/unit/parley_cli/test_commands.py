"""What all commands have in common: finding the stack, reporting failures, help."""

import json
import stat
import tomllib
from pathlib import Path

import grpc

from parley.dialog.v1 import dialog_pb2

from tests.unit.parley_cli.conftest import ID, Scripted, document, failure, message, parley


def test_without_a_stack_a_command_says_how_to_start_one(home: Path) -> None:
    result = parley("status", "--json")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "make run" in result.stderr


def test_a_stack_that_died_is_not_taken_for_a_running_one(home: Path) -> None:
    (home / "lock").touch()
    (home / "stack.json").write_text('{"state": "ready", "processes": []}')
    assert "no stack runs" in parley("status").stderr


def test_status_lists_every_process(stack: Scripted) -> None:
    processes = document("status")["processes"]
    assert [(one["name"], one["address"], one["pid"], one["healthy"]) for one in processes] == [
        ("edge", "127.0.0.1:8080", 7, True)
    ]
    assert "healthy" in parley("status").stdout


def test_calls_carry_the_operators_token(stack: Scripted) -> None:
    stack.answers["GetMessage"] = dialog_pb2.GetMessageResponse(message=message())
    parley("messages", "show", ID)
    assert stack.tokens == {"Bearer t0ken"}


def test_a_state_that_does_not_exist_is_refused_with_those_that_do(stack: Scripted) -> None:
    result = parley("messages", "list", "--state", "lost")
    assert result.exit_code == 2
    assert all(f"'{state}'" in result.stderr for state in ("received", "processing", "failed", "terminal"))


def test_a_failed_call_is_told_with_reason_fields_and_next_step(stack: Scripted) -> None:
    stack.answers["GetMessage"] = failure(
        grpc.StatusCode.NOT_FOUND, "MESSAGE_NOT_FOUND", "There is no message.", message_id="unknown"
    )
    result = parley("messages", "show", ID)
    assert result.exit_code == 1
    assert result.stdout == ""
    for words in ("There is no message.", "MESSAGE_NOT_FOUND", "message_id: unknown", "parley messages list"):
        assert words in result.stderr


def test_help_offers_what_there_is_and_nothing_else(stack: Scripted) -> None:
    flows = parley("bots", "create", "--help").stdout
    assert "form" in flows and "assistant" in flows
    assert "react" not in flows and "two_stage" not in flows
    assert "telegram" not in parley("channels", "create", "--help").stdout
    assert parley("bots", "create", "--id", "x", "--flow", "react").exit_code == 2
    assert not stack.requests


def test_with_json_a_failure_is_one_document_on_standard_error(stack: Scripted) -> None:
    stack.answers["GetMessage"] = failure(
        grpc.StatusCode.NOT_FOUND, "MESSAGE_NOT_FOUND", "There is no message.", message_id="unknown"
    )
    result = parley("messages", "show", ID, "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    error = json.loads(result.stderr)["error"]
    assert (error["code"], error["reason"]) == ("NOT_FOUND", "MESSAGE_NOT_FOUND")
    assert error["fields"] == [{"field": "message_id", "description": "unknown"}]
    assert "messages list" in error["hint"]


def test_with_json_a_wrong_option_is_a_document_too(stack: Scripted) -> None:
    result = parley("messages", "list", "--state", "lost", "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "lost" in json.loads(result.stderr)["error"]["message"]


def test_without_a_stack_json_says_so_in_json(home: Path) -> None:
    assert "no stack runs" in json.loads(parley("status", "--json").stderr)["error"]["message"]


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert parley("--version").stdout == f"parley {project['version']}\n"


def test_doctor_finds_keys_that_others_can_read(home: Path) -> None:
    (home / "keys").mkdir(mode=0o700)
    (home / "keys" / "master.key").write_bytes(b"x")
    (home / "keys" / "master.key").chmod(0o644)
    result = parley("doctor", "--json")
    findings = {one["name"]: one for one in json.loads(result.stdout)}
    assert result.exit_code == 1
    assert findings["keys"]["level"] == "error"
    assert findings["keys"]["todo"].startswith("chmod go= ")
    assert findings["stack"]["level"] == "warning"
    (home / "keys" / "master.key").chmod(stat.S_IRUSR)
    assert "readable by their owner only" in parley("doctor").stdout
