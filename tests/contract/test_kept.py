"""Nothing grows for ever: every table of every schema has a line that says what ends its rows."""

from importlib import import_module
from pathlib import Path

import asyncpg
import pytest

from parley.dialog.v1 import tenant_pb2

from services.runtime.migrations import migrate
from services.runtime.settings import Settings
from services.runtime.table_lifetimes import Kept
from services.telemetry.settings import TelemetrySettings
from tools.reference import KEEPERS

SERVICES = Path(__file__).parents[2] / "services"
TABLES = """
SELECT relname FROM pg_class
WHERE relnamespace = $1::text::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
"""


def kept_by(service: str) -> dict[str, Kept]:
    kept: dict[str, Kept] = import_module(f"services.{service}.table_lifetimes").KEPT
    return kept


def test_every_service_with_a_schema_says_it() -> None:
    assert sorted(KEEPERS) == sorted(folder.parent.name for folder in SERVICES.glob("*/migrations"))


@pytest.mark.parametrize("service", KEEPERS)
async def test_every_table_has_a_line_and_every_line_a_table(service: str, postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    await migrate(connection, service, SERVICES / service / "migrations")
    tables = {row[0] for row in await connection.fetch(TABLES, service)}
    await connection.close()
    assert tables == set(kept_by(service))


def test_what_a_line_names_is_there() -> None:
    lines = [line for service in KEEPERS for line in kept_by(service).values()]
    said = {field.name for field in tenant_pb2.Retention.DESCRIPTOR.fields}
    assert {line.tenant for line in lines if line.tenant} == said
    settings = {name for name in Settings.model_fields if name.startswith("retention_") and name.endswith("_days")}
    assert {line.setting for line in lines if line.setting} == settings | {"telemetry_days"}
    assert all(line.row and line.ends for line in lines)
    assert not [line for line in lines if line.time and line.setting]


def test_what_operators_read_is_what_holds() -> None:
    told = (SERVICES.parent / "docs" / "operating.md").read_text()
    lines = [line for line in told.splitlines() if line.startswith("|")]
    for name, field in TelemetrySettings.model_fields.items():
        if not name.startswith(("retention_", "telemetry_")) or not name.endswith("_days"):
            continue
        (line,) = [line for line in lines if f"`PARLEY_{name.upper()}`" in line and "remembered" not in line]
        assert f"| {f'{field.default} days' if field.default else 'for ever'} |" in line
