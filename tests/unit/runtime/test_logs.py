"""Logs are JSON, name their trace, and keep people's words and numbers out."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
import structlog
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext

from services.runtime import logs

TRACE = SpanContext(0xABC, 0xDEF, is_remote=False)


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield lambda: [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def test_a_line_is_json_with_its_service_and_values(lines: Any) -> None:
    logs.configure("dialog", "info")
    logs.get_logger("x").info("claimed", lanes=3)
    (line,) = lines()
    assert (line["event"], line["service"], line["level"], line["lanes"]) == ("claimed", "dialog", "info", 3)


def test_a_library_logs_in_the_same_form(lines: Any) -> None:
    logs.configure("dialog", "info")
    logging.getLogger("somebody").warning("%d retries", 3, extra={"host": "a"})
    (line,) = lines()
    assert (line["event"], line["service"], line["host"]) == ("3 retries", "dialog", "a")


def test_a_line_names_the_trace_it_belongs_to(lines: Any) -> None:
    logs.configure("dialog", "info")
    with trace.use_span(NonRecordingSpan(TRACE)):
        logs.get_logger("x").info("inside")
        logging.getLogger("y").warning("inside too")
    logs.get_logger("x").info("outside")
    inside, too, outside = lines()
    assert inside["trace_id"] == too["trace_id"] == f"{0xABC:032x}"
    assert "trace_id" not in outside


def test_an_exception_is_told_without_what_a_row_holds(lines: Any) -> None:
    logs.configure("dialog", "info")
    error = asyncpg.UniqueViolationError("duplicate key")
    error.detail = "Key (phone)=(+996555123456) already exists."
    error.constraint_name = "contacts_phone_key"
    try:
        raise error
    except asyncpg.UniqueViolationError:
        logs.get_logger("x").exception("failed")
    (line,) = lines()
    assert line["error"] == "UniqueViolationError 23505 contacts_phone_key"
    assert "996555" not in json.dumps(line)
    assert any("test_an_exception_is_told" in frame for frame in line["frames"])


def test_phone_numbers_in_a_message_are_masked() -> None:
    assert logs.describe(ValueError("no contact +996 555 123-456 here")) == "ValueError: no contact +*** here"
