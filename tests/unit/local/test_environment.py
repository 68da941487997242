"""SEC-4: a process of the stack is told its own secrets, and no others."""

from pathlib import Path
from stat import S_IMODE

import pytest

from deploy.local.home import Home
from deploy.local.keyrings import contents, hand_out
from deploy.local.ports import PORTS
from deploy.local.services import Layout, environment, present, service_spec, store_specs
from deploy.local.stores import Stores
from services.runtime.keys import SERVICES, Keys, ensure_keys
from services.runtime.rotation import rotate_master, rotate_pair

OWNERS = {"context", "delivery", "dialog", "limits", "telemetry"}
GIVEN = {
    "PATH": "/bin",
    "LC_ALL": "C",
    "OPENAI_API_KEY": "model-secret",
    "HTTPS_PROXY": "http://user:proxy-secret@proxy",
    "PARLEY_CHANNEL_TOKEN": "token-secret",
    "PARLEY_DATABASE_URL": "postgresql://all:database-secret@host/parley",
    "PARLEY_DIALOG_DATABASE_URL": "postgresql://dialog:dialog-secret@host/parley",
    "PARLEY_REDIS_URL": "redis://:redis-secret@host",
    "AWS_SECRET_ACCESS_KEY": "cloud-secret",
    "PARLEY_DIALOG_MODEL": "gpt",
    "PARLEY_LOG_LEVEL": "debug",
    "OTEL_SERVICE_NAME": "parley",
    "OTEL_SPAN_LINK_COUNT_LIMIT": "9",
}
SECRETS = {value for name, value in GIVEN.items() if "secret" in value}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    home = Home(tmp_path)
    return Layout(home, {name: port.default for name, port in PORTS.items()}, Stores.of(home, GIVEN), GIVEN)


def told(layout: Layout) -> dict[str, dict[str, str]]:
    return {service.name: environment(layout, service) for service in present()}


def test_each_secret_is_told_to_those_who_need_it(layout: Layout) -> None:
    who = {secret: {name for name, values in told(layout).items() if secret in values.values()} for secret in SECRETS}
    assert who == {
        "model-secret": {"dialog"},
        "http://user:proxy-secret@proxy": {"delivery", "dialog"},
        "token-secret": set(),
        "postgresql://all:database-secret@host/parley": OWNERS - {"dialog"},
        "postgresql://dialog:dialog-secret@host/parley": {"dialog"},
        "redis://:redis-secret@host": {"context", "delivery", "dialog", "limits"},
        "cloud-secret": set(),
    }


def test_a_process_is_told_its_own_settings_and_those_of_all(layout: Layout) -> None:
    of = told(layout)
    assert {name for name, values in of.items() if "PARLEY_DIALOG_MODEL" in values} == {"dialog"}
    assert {name for name, values in of.items() if "PARLEY_DIALOG_PORT" in values} == {"dialog"}
    assert all(values["PARLEY_LOG_LEVEL"] == "debug" and values["PATH"] == "/bin" for values in of.values())
    assert all(values["PARLEY_KEYS_DIR"].endswith(f"/keyrings/{name}") for name, values in of.items())
    assert all(values["OTEL_SPAN_LINK_COUNT_LIMIT"] == "9" for values in of.values())
    assert not any("OTEL_SERVICE_NAME" in values for values in of.values()), "one name for many services"


def test_no_secret_stands_in_a_command_line_or_with_a_store(tmp_path: Path, layout: Layout) -> None:
    stores = Stores.of(Home(tmp_path), {})
    specs = [*(service_spec(layout, service) for service in present()), *store_specs(stores.servers, GIVEN)]
    for spec in specs:
        assert not [word for word in spec.command() for secret in SECRETS if secret in word]
    for spec in store_specs(stores.servers, GIVEN):
        assert dict(spec.environment) == {"PATH": "/bin", "LC_ALL": "C"}


def test_in_the_embedded_server_each_service_has_a_role_of_its_own(tmp_path: Path) -> None:
    stores = Stores.of(Home(tmp_path), {})
    for service in OWNERS:
        assert stores.database_of(service).startswith(f"postgresql://parley_{service}@/parley?")


def test_a_keyring_has_what_its_service_needs_and_no_more(tmp_path: Path) -> None:
    keys, rings = tmp_path / "keys", tmp_path / "keyrings"
    ensure_keys(keys)
    hand_out(keys, rings)
    public = {f"{name}.pub" for name in (*SERVICES, "operator")} | {"revoked.json"}
    own = {service: {path.name for path in (rings / service).iterdir()} - public for service in SERVICES}
    assert own == {
        "edge": {"edge.key"},
        "console": {"console.key"},
        "telemetry": {"telemetry.key"},
        "limits": {"limits.key", "derived.limits-reservations.key"},
        "dialog": {"dialog.key", "master.key"},
        "delivery": {"delivery.key", "master.key"},
        "context": {"context.key", "master.key", "derived.context-identities.key"},
    }
    for path in rings.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0
    assert Keys(rings / "limits").derive("limits reservations") == Keys(keys).derive("limits reservations")


def test_keyrings_follow_a_rotation(tmp_path: Path) -> None:
    keys, rings = tmp_path / "keys", tmp_path / "keyrings"
    ensure_keys(keys)
    hand_out(keys, rings)
    rotate_pair(keys, "dialog", spread=lambda: hand_out(keys, rings))
    rotate_master(keys, spread=lambda: hand_out(keys, rings))
    for service in SERVICES:
        assert {path.name: path.read_bytes() for path in (rings / service).iterdir()} == contents(keys, service)
    assert len(Keys(rings / "edge").public("dialog")) == 2
    assert len(Keys(rings / "dialog").master) == 2


def test_each_start_closes_keys_and_their_copies_to_other_users(layout: Layout) -> None:
    """Whoever copied or restored them, and under whatever umask."""
    home = layout.home
    home.keyrings.mkdir(mode=0o755)
    for _ in range(2):
        hand_out(ensure_keys(home.keys).folder, home.keyrings)
        tops = (home.keys, home.keyrings)
        modes = {path: S_IMODE(path.stat().st_mode) for top in tops for path in (top, *top.rglob("*"))}
        assert {path for path, mode in modes.items() if mode & 0o077} == set()
        for path in modes:
            path.chmod(0o755 if path.is_dir() else 0o644)
