"""Forms that waited for their person when the version before stopped have timers in their lanes."""

import shutil
from pathlib import Path
from uuid import UUID

import asyncpg

import services.dialog
from services.dialog.domain.items import drop_off_of
from services.dialog.postgres.queries import LANES
from services.runtime.lanes.timers import unpack
from services.runtime.migrations import migrate

MIGRATIONS = Path(next(iter(services.dialog.__path__))) / "migrations"
BEFORE = """
INSERT INTO dialog.lanes (lane_id, tenant_id, next_seq, done_seq, pending, due_at)
SELECT id::uuid, 'acme', 4, done, 3 - done, CASE WHEN done < 3 THEN now() END
FROM (VALUES ('00000000-0000-0000-0000-000000000001', 3), ('00000000-0000-0000-0000-000000000002', 2),
    ('00000000-0000-0000-0000-000000000003', 3)) AS lane (id, done);
INSERT INTO dialog.open_forms
SELECT lane_id, gen_random_uuid(), 'acme', 'water', 'channel', 'waiting_phone', 2, now() - interval '5 minutes',
    now() - interval '1 minute', interval '1 day', now() + interval '1 day'
FROM dialog.lanes WHERE lane_id < '00000000-0000-0000-0000-000000000003';
"""


async def test_open_forms_become_timers(postgres_url: str, tmp_path: Path) -> None:
    connection = await asyncpg.connect(postgres_url)
    for path in sorted(MIGRATIONS.iterdir())[:12]:
        shutil.copy(path, tmp_path)
    await migrate(connection, "dialog", tmp_path)
    await connection.execute(BEFORE)
    forms = {row["conversation_id"]: row for row in await connection.fetch("SELECT * FROM dialog.open_forms")}
    await migrate(connection, "dialog", MIGRATIONS)
    lanes = {row["lane_id"]: row for row in await connection.fetch("SELECT * FROM dialog.lanes")}
    for lane_id, form in forms.items():
        lane = lanes[lane_id]
        (timer,) = unpack(lane["timers"])
        stored = drop_off_of([timer])
        assert stored is not None
        assert {name: form[name] for name in stored.__slots__} == {
            name: getattr(stored, name) for name in stored.__slots__
        }
        assert timer.at == lane["timer_at"] > form["active_at"] + form["ttl"]
        assert lane["due_at"] == lane["timer_at"] or lane["pending"]
    assert (lanes[UUID(int=3)]["timer_at"], lanes[UUID(int=3)]["due_at"]) == (None, None)
    assert await LANES.set_mode(connection, "acme", UUID(int=1), 1)
    await connection.close()
