"""Rows that one statement takes many of: a type names their columns, once for Python and for SQL."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar, get_args, get_type_hints
from uuid import UUID

Row = TypeVar("Row", bound=tuple[Any, ...])
BigInt = Annotated[int, "bigint"]
_TYPES = {UUID: "uuid", str: "text", int: "int", float: "float8", bytes: "bytea", datetime: "timestamptz"}


class Rows(Generic[Row]):
    """The rows of a NamedTuple as arrays, one a column, which are the parameters of a statement from `first` on.

    In SQL: `unnest({arrays}) AS new ({columns})`. `after` is the number of the next parameter.
    """

    def __init__(self, row: type[Row], first: int = 1) -> None:
        hints = get_type_hints(row, include_extras=True)
        self.columns = ", ".join(hints)
        self.arrays = ", ".join(f"${number}::{_type(hint)}[]" for number, hint in enumerate(hints.values(), first))
        self.after = first + len(hints)
        self._none: tuple[Sequence[Any], ...] = ((),) * len(hints)

    def arguments(self, rows: Sequence[Row]) -> tuple[Sequence[Any], ...]:
        return tuple(zip(*rows, strict=True)) if rows else self._none


def _type(hint: Any) -> str:
    """The type of a column. Each column may hold NULL."""
    metadata = getattr(hint, "__metadata__", None)
    if metadata:
        return str(metadata[0])
    known = [each for each in (hint, *get_args(hint)) if each in _TYPES]
    return _TYPES[known[0]]
