"""How this package reaches its SQL: statements by name, in which sets of rows have named columns."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from services.runtime import lanes
from services.runtime.queries import load_queries

SCHEMA = "dialog"
LANES = lanes.Lanes(SCHEMA)

_LANE_SQL = load_queries(Path(lanes.__file__).with_name("queries.sql"), schema=SCHEMA)
_ROWS = re.compile(r"rows (\w+) \(([^)]*)\)")
_PARAMETER = re.compile(r"\$(\d+)")


class Query(str):
    """A statement that takes sets of rows. `FROM rows orders (turn_id uuid, index int)` stands for an `unnest` of one
    array for each column; their parameters come after the numbered ones."""

    sets: dict[str, tuple[str, ...]]

    def __new__(cls, text: str) -> "Query":
        number = max(map(int, _PARAMETER.findall(text)), default=0)
        sets = {}

        def unnest(found: re.Match[str]) -> str:
            nonlocal number
            columns = [column.split() for column in found[2].split(",")]
            first, number = number + 1, number + len(columns)
            arrays = ", ".join(f"${first + at}::{kind}[]" for at, (_, kind) in enumerate(columns))
            sets[found[1]] = tuple(name for name, _ in columns)
            return f"unnest({arrays}) AS {found[1]} ({', '.join(sets[found[1]])})"

        made = super().__new__(cls, _ROWS.sub(unnest, text))
        made.sets = sets
        return made

    def arguments(self, *numbered: object, **rows: Sequence[Any]) -> list[object]:
        """The arguments of the statement: the numbered ones, then each set as columns. Rows are NamedTuples with the
        columns as fields."""
        assert rows.keys() == self.sets.keys()
        return [*numbered, *(column for name, names in self.sets.items() for column in _columns(rows[name], names))]


def _columns(rows: Sequence[Any], names: Sequence[str]) -> Iterable[Sequence[object]]:
    if not rows:
        return [()] * len(names)
    fields: tuple[str, ...] = rows[0]._fields
    columns = list(zip(*rows, strict=True))
    return columns if fields == names else [columns[fields.index(name)] for name in names]


def load(name: str) -> dict[str, Query]:
    """The statements of a file in this folder. `{append}`, `{settle}` and the like stand for those of lanes, whose
    parameters come first and keep their numbers; other words stand for statements of the same file."""
    path = Path(__file__).with_name(f"{name}.sql")
    pieces = load_queries(path, **_LANE_SQL)
    return {name: Query(sql) for name, sql in load_queries(path, **{**pieces, **_LANE_SQL}).items()}
