"""The statements of statements.sql."""

from functools import cache
from pathlib import Path

from services.runtime.queries import load_queries


def sql(name: str) -> str:
    """Returns a statement by its name."""
    return _queries()[name]


@cache
def _queries() -> dict[str, str]:
    return load_queries(Path(__file__).parent / "statements.sql")
