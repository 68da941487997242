"""How this package reaches its SQL: statements by name, in which sets of rows have named columns."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from services.runtime import lanes
from services.runtime.queries import load_queries

SCHEMA = "dialog"
LANES = lanes.Lanes(SCHEMA)

_LANE_SQL = load_queries(Path(lanes.__file__).with_name("queries.sql"), schema=SCHEMA)
_ROWS = re.compile(r"rows (\w+) \(([^)]*)\)")
_PARAMETER = re.compile(r"\$(\d+)")


Row = Mapping[str, object]
"""Values by the names of their columns."""


class Query:
    """A statement that takes sets of rows: `FROM rows orders (turn_id uuid, place int)` stands for an `unnest` of an
    array for each column. Their parameters come after the numbered ones."""

    def __init__(self, text: str) -> None:
        self.sets: dict[str, tuple[str, ...]] = {}
        self._number = max(map(int, _PARAMETER.findall(text)), default=0)
        self.sql = _ROWS.sub(self._unnest, text)

    def _unnest(self, found: re.Match[str]) -> str:
        columns = [column.split() for column in found[2].split(",")]
        arrays = []
        for _, kind in columns:
            self._number += 1
            arrays.append(f"${self._number}::{kind}[]")
        names = self.sets[found[1]] = tuple(name for name, _ in columns)
        return f"unnest({', '.join(arrays)}) AS {found[1]} ({', '.join(names)})"

    def arguments(self, *numbered: object, **rows: Sequence[Row]) -> list[object]:
        """The arguments of the statement: the numbered ones, then each set as columns."""
        assert rows.keys() == self.sets.keys()
        columns = [[row[name] for row in rows[of]] for of, names in self.sets.items() for name in names]
        return [*numbered, *columns]


def queries(name: str) -> dict[str, Query]:
    """The statements of a file in this folder. `{append}`, `{settle}` and the like stand for those of lanes, whose
    parameters come first and keep their numbers; other words stand for statements of the same file."""
    path = Path(__file__).with_name(f"{name}.sql")
    pieces = load_queries(path, **_LANE_SQL)
    return {name: Query(sql) for name, sql in load_queries(path, **{**pieces, **_LANE_SQL}).items()}


def load(name: str) -> dict[str, str]:
    """The same, as they are sent."""
    return {name: query.sql for name, query in queries(name).items()}
