"""Logs: one JSON object a line on standard output. They hold no secrets, no phone numbers and no message text."""

import logging
import re
import sys
import traceback
from typing import Any

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, WrappedLogger

_DIGITS = re.compile(r"\d[\d\s()-]{5,}\d")
_FRAMES = 12
_LONGEST = 300
_QUIET = ("asyncio", "asyncpg", "grpc", "httpx", "httpx2", "openai", "opentelemetry", "aiohttp", "urllib3")


def configure(service: str, level: str = "info") -> None:
    """Send the logs of this process, those of libraries too, to standard output."""

    def add_service(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.stdlib.ExtraAdder(),
        structlog.stdlib.PositionalArgumentsFormatter(),
        add_service,
        add_trace,
        tell_exception,
    ]
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(ensure_ascii=False, default=repr),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose calls take an event and key-values: `log.info("claimed", lanes=3)`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def add_trace(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Add the id of the trace that the line belongs to, recorded or not."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = f"{context.trace_id:032x}"
    return event


def tell_exception(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace `exc_info` by the failure's type, what may be said of it, and the frames it came through."""
    told = event.pop("exc_info", None)
    if told is True:
        told = sys.exc_info()[1]
    elif isinstance(told, tuple):
        told = told[1]
    if isinstance(told, BaseException):
        event["error"] = describe(told)
        frames = traceback.extract_tb(told.__traceback__)[-_FRAMES:]
        event["frames"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return event


def describe(error: BaseException) -> str:
    """A failure in one line, with nothing in it that a database row or a person's message could have put there."""
    name = type(error).__name__
    sqlstate = getattr(error, "sqlstate", None)
    if sqlstate:
        constraint = getattr(error, "constraint_name", None)
        return f"{name} {sqlstate}" + (f" {constraint}" if constraint else "")
    if hasattr(error, "errors") and hasattr(error, "title"):  # pydantic repeats the input in its message
        return name
    return f"{name}: {_DIGITS.sub('***', str(error))[:_LONGEST]}"
