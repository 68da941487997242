"""What the local stack tells its services."""

from pathlib import Path

import pytest

from deploy.local.demo import bots
from deploy.local.home import Home
from deploy.local.ports import PORTS
from deploy.local.services import SERVICES, Layout, environment
from deploy.local.stores import Stores
from services.dialog.settings import DialogSettings


def told(name: str, tmp_path: Path, **given: str) -> dict[str, str]:
    ports = {port: 1000 + number for number, port in enumerate(PORTS)}
    home = Home(tmp_path)
    layout = Layout(home, ports, Stores.of(home, given), given)
    return environment(layout, next(service for service in SERVICES if service.name == name))


def test_dlg_2_five_turns_at_a_time_by_default_and_more_on_one_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PARLEY_DIALOG_WORKERS", raising=False)
    assert DialogSettings().dialog_workers == 5
    assert int(told("dialog", tmp_path)["PARLEY_DIALOG_WORKERS"]) >= 50
    assert told("dialog", tmp_path, PARLEY_DIALOG_WORKERS="7")["PARLEY_DIALOG_WORKERS"] == "7"


def test_ctx_1_the_water_order_is_remembered_for_a_day_and_others_for_thirty() -> None:
    remembered = {bot.bot_id: bot.dialog_ttl.ToSeconds() for bot in bots() if bot.HasField("dialog_ttl")}
    assert remembered == {"water": 24 * 3600}
