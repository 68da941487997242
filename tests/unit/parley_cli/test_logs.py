"""`parley logs`: all processes' lines in one, filtered."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from parley_cli.log_lines import Read, read
from tests.unit.parley_cli.conftest import document, parley


@pytest.fixture
def logs(home: Path) -> Path:
    """Logs of two services and PostgreSQL, of the last hour."""
    folder = home / "logs"
    folder.mkdir()
    now = datetime.now(UTC)

    def line(minutes: int, level: str, event: str, **fields: str) -> str:
        at = (now - timedelta(minutes=minutes)).isoformat()
        return json.dumps({"at": at, "level": level, "event": event, **fields}) + "\n"

    (folder / "edge.log").write_text(line(50, "info", "serving") + line(5, "error", "cannot store", trace_id="t1"))
    (folder / "dialog.log").write_text(line(20, "warning", "slow", lanes="3"))
    (folder / "postgres.log").write_text(f"{now - timedelta(minutes=10):%Y-%m-%d %H:%M:%S} UTC [1] FATAL:  no role\n")
    return folder


def events(*arguments: str) -> list[str]:
    return [line["event"] for line in document("logs", *arguments)]


def test_lines_of_all_processes_stand_in_the_order_of_time(logs: Path) -> None:
    shown = document("logs")
    assert [line["process"] for line in shown] == ["edge", "dialog", "postgres", "edge"]
    assert shown[1]["lanes"] == "3"


def test_lines_are_chosen_by_process_age_level_and_trace(logs: Path) -> None:
    assert events("dialog") == ["slow"]
    assert events("--since", "15m")[-1] == "cannot store" and len(events("--since", "15m")) == 2
    assert len(events("--level", "error")) == 2
    assert events("--trace", "t1") == ["cannot store"]
    assert events("-n", "1") == ["cannot store"]
    assert events("-n", "0") == []


def test_a_person_sees_process_event_and_fields(logs: Path) -> None:
    out = parley("logs", "dialog").stdout
    assert "dialog" in out and "slow" in out and "lanes=3" in out


def test_a_process_that_does_not_exist_is_answered_with_those_that_do(logs: Path) -> None:
    assert "dialog, edge, postgres" in parley("logs", "edgy").stderr


def test_without_logs_it_says_where_it_has_looked(home: Path) -> None:
    assert str(home / "logs") in parley("logs").stderr


def test_only_whole_lines_are_read_and_a_log_begun_anew_from_its_start(tmp_path: Path) -> None:
    log = tmp_path / "edge.log"
    log.write_text("one\ntw")
    lines, so_far = read("edge", log, Read())
    assert [line.event for line in lines] == ["one"]
    with log.open("a") as file:
        file.write("o\n")
    lines, so_far = read("edge", log, so_far)
    assert [line.event for line in lines] == ["two"]
    log.write_text("new\n")
    lines, _ = read("edge", log, so_far)
    assert [line.event for line in lines] == ["new"]
