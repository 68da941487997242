"""What a process's spans say of it is told by OpenTelemetry's own variables."""

import os
import threading

import pytest
from opentelemetry import trace

from parley_client.tokens import StaticToken
from services.runtime.settings import Settings
from services.runtime.tracing import provider
from services.runtime.tracing.provider import Tracing, limits, resource_of


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process's provider stays as it is, and nobody else's environment counts."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(trace, "set_tracer_provider", lambda provider: None)


def start(**settings: object) -> Tracing:
    return provider.start("dialog", Settings(**settings), StaticToken("t"))  # type: ignore[arg-type]


def test_a_process_is_told_by_its_service_version_and_instance() -> None:
    of = dict(resource_of("dialog").attributes)
    assert (of["service.name"], of["service.namespace"]) == ("dialog", "parley")
    assert of["service.version"]
    assert of["service.instance.id"]


def test_the_environment_goes_before_what_we_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.version=7")
    of = dict(resource_of("dialog").attributes)
    assert (of["service.name"], of["service.version"], of["deployment.environment.name"]) == ("dialog", "7", "test")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "parley-dialog")
    assert resource_of("dialog").attributes["service.name"] == "parley-dialog"


def test_values_have_a_longest_length_unless_the_environment_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert limits().max_span_attribute_length == provider.LONGEST_VALUE
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "100")
    assert limits().max_span_attribute_length == 100
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "50")
    assert limits().max_span_attribute_length == 50


async def test_without_a_backend_nothing_is_recorded_and_no_thread_waits() -> None:
    before = {thread.ident for thread in threading.enumerate()}
    started = start()
    assert not started.provider.get_tracer("test").start_span("x").is_recording()
    assert {thread.ident for thread in threading.enumerate()} <= before
    await started.close()
