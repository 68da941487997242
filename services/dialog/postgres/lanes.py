"""The statements of lanes, to be built into larger ones: a lane changes in one statement with the rows it is for."""

from pathlib import Path

from services.runtime import lanes
from services.runtime.queries import load_queries

SCHEMA = "dialog"
LANES = lanes.Lanes(SCHEMA)

_LANE_SQL = load_queries(Path(lanes.__file__).with_name("queries.sql"), schema=SCHEMA)


def load(name: str) -> dict[str, str]:
    """The statements of a file in this folder, in which `{append}`, `{settle}` and the like are those of lanes.

    Their parameters come first and keep their numbers.
    """
    return load_queries(Path(__file__).with_name(f"{name}.sql"), **_LANE_SQL)
