"""What `status` and `doctor` say of processes and queues."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc

from parley.delivery.v1 import delivery_pb2

from parley_cli.checks import judge_store
from parley_cli.queues import backlog
from parley_cli.troubles import trouble
from tests.unit.parley_cli.conftest import Scripted, failure, parley

NOW = datetime(2026, 11, 21, 12, 0, 10, tzinfo=UTC)


def process(**fields: Any) -> dict[str, Any]:
    return {
        "name": "dialog",
        "address": "127.0.0.1:50052",
        "pid": 7,
        "healthy": True,
        "restarts": 0,
        "since": "2026-11-21T12:00:05+00:00",
        "started_at": "2026-11-21T12:00:08+00:00",
        "found": "does not answer",
        "last_end": "",
        "log": "dialog.log",
    } | fields


def test_nothing_is_said_of_a_process_that_is_well() -> None:
    assert trouble(process(), NOW) == ""


def test_a_process_that_does_not_answer_is_told_with_times_and_without_addresses() -> None:
    told = trouble(process(healthy=False, restarts=1, last_end="was ended by SIGKILL"), NOW)
    assert told.startswith("dialog does not answer since ")
    assert told.endswith("; started again 2 s ago (it was ended by SIGKILL)")
    assert "127.0.0.1" not in told


def test_a_process_that_is_down_is_told_as_such() -> None:
    assert trouble(process(healthy=False, pid=None), NOW).startswith("dialog does not run since ")


def test_a_process_that_came_back_is_told_for_a_while() -> None:
    assert trouble(process(restarts=2, last_end="exited with code 1"), NOW) == (
        "dialog is back; started again 2 s ago (it exited with code 1)"
    )
    assert trouble(process(restarts=2), datetime(2026, 11, 22, tzinfo=UTC)) == ""


def test_dead_replies_and_late_messages_are_told_with_the_command_that_shows_them() -> None:
    told = backlog({"inbox": {"dead": 2, "failed": 0, "oldest_waiting": "90s"}, "outbox": {"dead": 3, "unknown": 0}})
    assert told == [
        ("2 dead messages", "parley messages list --state terminal"),
        ("a message waits for 1 min 30 s", "parley messages list --state received"),
        ("3 dead replies", "parley deliveries list --state dead"),
    ]
    assert not backlog({"inbox": {"oldest_waiting": "3s"}, "outbox": {"error": "delivery is not answering"}})


def test_a_store_that_nobody_could_ask_is_not_blamed() -> None:
    assert judge_store("redis", "unknown", "PARLEY_REDIS_URL").level == "warning"
    assert judge_store("redis", "down", "PARLEY_REDIS_URL").level == "error"
    assert judge_store("redis", "ok", "PARLEY_REDIS_URL").level == "ok"


def rewrite(home: Path, **changes: Any) -> None:
    state = json.loads((home / "stack.json").read_text())
    (home / "stack.json").write_text(json.dumps(state | changes))


def test_a_degraded_stack_is_said_so_and_the_exit_code_tells_scripts(stack: Scripted, home: Path) -> None:
    stack.answers["GetQueueStats"] = failure(grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE", "Postgres is away.")
    rewrite(home, state="degraded", processes=[process(healthy=False)])
    result = parley("status")
    assert result.exit_code == 1
    assert "state: degraded" in result.stdout and "dialog does not answer since" in result.stdout
    as_json = parley("status", "--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["queues"]["inbox"] == {"error": "Postgres is away."}


def test_status_counts_what_is_dead(stack: Scripted) -> None:
    stack.answers["GetQueueStats"] = delivery_pb2.GetQueueStatsResponse(dead=3)
    result = parley("status")
    assert result.exit_code == 0
    assert "parley deliveries list --state dead" in result.stdout
