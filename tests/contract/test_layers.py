"""Import-linter knows every module: a new one has a layer, or `make check` fails."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_service_has_a_contract_that_leaves_no_module_out() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    covered = [each for contract in contracts if contract.get("exhaustive") for each in contract["containers"]]
    services = {f"services.{folder.name}" for folder in (ROOT / "services").iterdir() if any(folder.rglob("*.py"))}
    assert sorted(covered) == sorted(services)
