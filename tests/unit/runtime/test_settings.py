"""Settings come from the environment."""

from pathlib import Path

import pytest

from services.runtime.settings import Settings


class LimitsSettings(Settings):
    limits_port: int = 50053


def test_keys_lie_in_home_unless_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_HOME", "/x")
    assert Settings().keys_dir == Path("/x/keys")
    monkeypatch.setenv("PARLEY_KEYS_DIR", "/y")
    assert Settings().keys_dir == Path("/y")
    assert Settings(keys_dir=Path("/z")).keys_dir == Path("/z")


def test_a_service_finds_its_own_port_and_others_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_LIMITS_PORT", "0")
    monkeypatch.setenv("PARLEY_CONTEXT_ADDRESS", "context:1")
    settings = LimitsSettings()
    assert settings.port_of("limits") == 0
    assert settings.address_of("context") == "context:1"


def test_opentelemetrys_own_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317")
    assert Settings().otlp_endpoint == "http://collector:4317"
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "70000")
    assert Settings().span_delay_ms == 70_000
