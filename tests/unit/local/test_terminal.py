"""Which log lines the terminal shows."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from deploy.local import terminal
from deploy.local.terminal import LogView, Terminal, last_words, severe

SHOWN = [
    ('{"level": "error", "event": "no", "reason": "X", "service": "edge"}', ("error", "no reason=X")),
    ('{"level": "warning", "event": "slow"}', ("warning", "slow")),
    ("2026-11-21 08:00:00 UTC [1] FATAL:  role missing", ("error", "role missing")),
    ("ModuleNotFoundError: No module named 'x'", ("error", "ModuleNotFoundError: No module named 'x'")),
]
HIDDEN = [
    '{"level": "info", "event": "serving"}',
    '{"event": "no level"}',
    "[1, 2]",
    "{broken",
    "",
    "2026-11-21 08:00:00 UTC [1] LOG:  database system is ready",
    '  File "x.py", line 3, in f',
]


@pytest.mark.parametrize(("line", "told"), SHOWN)
def test_warnings_and_errors_are_told(line: str, told: tuple[str, str]) -> None:
    assert severe(line) == told


@pytest.mark.parametrize("line", HIDDEN)
def test_everything_else_stays_in_the_log(line: str) -> None:
    assert severe(line) is None


def view(log: Path) -> tuple[LogView, io.StringIO]:
    out = io.StringIO()
    return LogView({"edge": log}, Terminal(Console(file=out, width=200))), out


def test_only_new_and_whole_lines_are_told_and_none_twice_in_a_row(tmp_path: Path) -> None:
    log = tmp_path / "edge.log"
    log.write_text('{"level": "error", "event": "old"}\n')
    shown, out = view(log)
    with log.open("a") as file:
        file.write('{"level": "error", "event": "new"}\n' * 2 + '{"level": "error", "ev')
        file.flush()
        shown.step()
        file.write('ent": "later"}\n')
    shown.step()
    lines = out.getvalue().splitlines()
    assert [line.split()[-1] for line in lines] == ["new", "later"]


def test_a_flood_is_told_as_a_number(tmp_path: Path) -> None:
    log = tmp_path / "edge.log"
    shown, out = view(log)
    log.write_text("".join(f'{{"level": "error", "event": "e{n}"}}\n' for n in range(100)))
    shown.step()
    lines = out.getvalue().splitlines()
    assert len(lines) == terminal.LINES_AT_ONCE + 1
    assert "80 lines more" in lines[-1]


def test_a_log_that_grows_too_large_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "LARGEST", 100)
    log = tmp_path / "edge.log"
    shown, _ = view(log)
    log.write_text('{"level": "info", "event": "x"}\n' * 10)
    while not (tmp_path / "edge.log.1").exists():
        shown.step()
    assert log.stat().st_size == 0


def test_a_process_that_did_not_start_is_explained_by_its_last_error(tmp_path: Path) -> None:
    log = tmp_path / "dialog.log"
    log.write_text(
        '{"level": "critical", "event": "cannot serve", "error": "KeyMissing"}\n{"level": "info", "event": "x"}'
    )
    assert last_words(log) == "cannot serve error=KeyMissing"
    log.write_text("nothing of use\n")
    assert last_words(log) == "nothing of use"
    assert last_words(tmp_path / "none.log") == "(no log)"
