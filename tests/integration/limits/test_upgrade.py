"""Rules that the version before has stored go on as they were."""

import shutil
from pathlib import Path

from services.limits.domain.algorithms.calendar_quota import CalendarQuota
from services.limits.domain.algorithms.sliding_window import SlidingWindow
from services.limits.domain.rules import Override, Scope, Selector
from services.limits.postgres.rules import PostgresRules
from services.runtime.postgres import open_pool
from tests.integration.limits.stores import MIGRATIONS

BEFORE = """
INSERT INTO limits.rules (tenant_id, rule_id, resource, scope, max_units, time_zone, window_ms, failure_mode) VALUES
    ('acme', 'daily-quota', 'model.turn', 4, 7, 'Asia/Bishkek', NULL, 3),
    ('acme', 'rate', 'send', 3, 5, NULL, 1500, 1);
INSERT INTO limits.overrides (tenant_id, rule_id, scope, selector_id, max_units, window_ms)
VALUES ('acme', 'rate', 3, 'tg', 9, 2500);
"""
FROM_ELSEWHERE = """
INSERT INTO limits.rules (tenant_id, rule_id, resource, scope, algorithm, parameters, failure_mode) VALUES
    ('acme', 'newer', 'send', 3, 'phases_of_the_moon', '{"limit": 1}', 1),
    ('acme', 'wrong', 'send', 3, 'sliding_window', '{"limit": "many"}', 1)
"""


async def test_rules_of_the_version_before_are_algorithms_with_parameters(postgres_url: str, tmp_path: Path) -> None:
    for each in sorted(MIGRATIONS.glob("*.sql"))[:2]:
        shutil.copy(each, tmp_path)
    old = await open_pool(postgres_url, name="test", schema="limits", migrations=tmp_path, size=1)
    await old.execute(BEFORE)
    await old.close()
    pool = await open_pool(postgres_url, name="test", schema="limits", migrations=MIGRATIONS, size=1)
    try:
        await pool.execute(FROM_ELSEWHERE)
        rules = (await PostgresRules(pool).rules()).of("acme")
        assert {rule_id: rule.algorithm for rule_id, rule in rules.items()} == {
            "daily-quota": CalendarQuota(7, "Asia/Bishkek"),
            "rate": SlidingWindow(5, 1500),
            "chat2desk-rate": SlidingWindow(300, 60_000),
        }, "and what cannot be read is left out"
        assert rules["rate"].overrides == {Selector(Scope.CHANNEL, "tg"): Override(9, 2500)}
        listed, last = await PostgresRules(pool).list("acme", "", 3)
        assert ([rule.rule_id for rule in listed], last) == (["chat2desk-rate", "daily-quota"], "newer")
        listed, last = await PostgresRules(pool).list("acme", last, 3)
        assert ([rule.rule_id for rule in listed], last) == (["rate"], "")
    finally:
        await pool.close()
