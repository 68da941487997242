"""Workers remember bots, but not all that there ever were."""

from collections.abc import Mapping
from typing import Any

from services.dialog.domain.bots import Bot, FormSettings
from services.dialog.postgres.cached_bots import BotCache
from services.dialog.postgres.records import settings_of


class Rows:
    """A database with every bot, at one stamp."""

    def __init__(self) -> None:
        self.reads = 0
        self.stamp = 1

    async def fetch(self, query: str, tenants: list[str], bots: list[str]) -> list[Mapping[str, Any]]:
        self.reads += 1
        return [self.row(tenant, bot) for tenant, bot in zip(tenants, bots, strict=True)]

    def row(self, tenant_id: str, bot_id: str) -> Mapping[str, Any]:
        settings = settings_of(Bot(tenant_id, bot_id, FormSettings("water-order")))
        row = {"tenant_id": tenant_id, "bot_id": bot_id, "settings": settings, "enabled": True, "broken_reason": ""}
        times = {"revision": 1, "created_at": None, "updated_at": None}
        return row | times | {"stamp": self.stamp, "default_region": "KG", "time_zone": "UTC"}


def keys(*names: str) -> list[tuple[tuple[str, str], int]]:
    return [(("acme", name), 1) for name in names]


async def test_a_known_bot_is_not_read_again_until_its_stamp_grows() -> None:
    rows = Rows()
    cache = BotCache(rows, "read")  # type: ignore[arg-type]
    for _ in range(3):
        assert set(await cache.get(keys("a", "b"))) == {("acme", "a"), ("acme", "b")}
    assert rows.reads == 1
    rows.stamp = 2
    found = await cache.get([(("acme", "a"), 2), (("acme", "b"), 1)])
    assert (rows.reads, found["acme", "a"].stamp, found["acme", "b"].stamp) == (2, 2, 1)


async def test_only_so_many_are_kept_and_the_least_recently_used_goes_first() -> None:
    rows = Rows()
    cache = BotCache(rows, "read", kept=2)  # type: ignore[arg-type]
    assert len(await cache.get(keys("a", "b", "c"))) == 3, "one claim may need more bots than are kept"
    assert rows.reads == 1
    await cache.get(keys("b"))
    await cache.get(keys("d"))
    assert rows.reads == 2
    await cache.get(keys("b", "d"))
    assert rows.reads == 2
    await cache.get(keys("c"))
    assert rows.reads == 3
