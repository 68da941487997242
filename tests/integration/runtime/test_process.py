"""A service as a process of its own: signals, exit codes, and what it prints."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from services.runtime.keys import Keys, tokens_of
from services.runtime.tracing.backends import EXPORT
from services.runtime.verifier import Verifier

ROOT = Path(__file__).parents[3]

SERVICE = """
    import asyncio, os
    from services.runtime.service import App, main
    from services.runtime.settings import Settings
    from parley.context.v1 import context_pb2_grpc

    class ContextSettings(Settings):
        context_port: int = 0

    async def build(runtime, settings):
        async def work(stop):
            if os.environ.get("CRASH"):
                raise ValueError("broken")
            await stop.wait()

        servicer = context_pb2_grpc.ContextServiceServicer
        servicer.__abstractmethods__ = frozenset()
        name = "parley.context.v1.ContextService"
        add = context_pb2_grpc.add_ContextServiceServicer_to_server
        return App([(name, add, servicer())], background=[work])

    if __name__ == "__main__":
        main("context", ContextSettings, build)
"""

PARENT = """
    import subprocess, sys
    child = subprocess.Popen([sys.executable, sys.argv[1]], stdout=subprocess.PIPE, text=True)
    print(child.pid, child.stdout.readline(), flush=True)
    child.wait()
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "service.py"
    path.write_text(dedent(SERVICE))
    return path


@pytest.fixture
def environment(tmp_path: Path, keys_dir: Path) -> dict[str, str]:
    path = os.pathsep.join(str(ROOT / part) for part in ("", "gen", "clients"))
    ours = {"PYTHONPATH": path, "PARLEY_HOME": str(tmp_path), "PARLEY_KEYS_DIR": str(keys_dir)}
    return {**os.environ, **ours}


@asynccontextmanager
async def process(*command: object, environment: dict[str, str]) -> AsyncIterator[Process]:
    started = await asyncio.create_subprocess_exec(
        sys.executable, *map(str, command), env=environment, stdout=PIPE, stderr=PIPE
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


async def events(started: Process) -> list[dict[str, Any]]:
    """All that a process printed, once it has ended."""
    async with asyncio.timeout(60):
        output, errors = await started.communicate()
    assert errors == b""
    return [json.loads(line) for line in output.splitlines()]


async def first_event(started: Process) -> dict[str, Any]:
    assert started.stdout is not None
    async with asyncio.timeout(60):
        line: dict[str, Any] = json.loads(await started.stdout.readline())
    return line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_it_cleanly(script: Path, environment: dict[str, str], number: signal.Signals) -> None:
    async with process(script, environment=environment) as service:
        serving = await first_event(service)
        assert serving["event"] == "serving"
        async with grpc.aio.insecure_channel(serving["address"]) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest())
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        service.send_signal(number)
        assert [line["event"] for line in await events(service)] == ["stopping", "stopped"]
        assert service.returncode == 0


async def test_a_crash_in_the_background_ends_it_with_an_error(script: Path, environment: dict[str, str]) -> None:
    async with process(script, environment={**environment, "CRASH": "1"}) as service:
        lines = await events(service)
        assert service.returncode == 1
    (crash,) = (line for line in lines if line["level"] == "critical")
    assert (crash["event"], crash["error"]) == ("background task crashed", "ValueError: broken")


async def test_missing_keys_are_named(script: Path, environment: dict[str, str], tmp_path: Path) -> None:
    async with process(script, environment={**environment, "PARLEY_KEYS_DIR": str(tmp_path)}) as service:
        (line,) = await events(service)
        assert service.returncode == 1
    assert "context.key" in line["error"]


async def test_wrong_settings_are_named(script: Path, environment: dict[str, str]) -> None:
    async with process(script, environment={**environment, "PARLEY_TRACE_RATIO": "often"}) as service:
        _, errors = await service.communicate()
        assert service.returncode != 0
    assert b"trace_ratio" in errors


class Collector:
    """Takes spans as an OTLP/gRPC backend does."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, str, bytes]] = []
        self.metadata: dict[str, str] = {}

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        server = grpc.aio.server()
        handler: Any = grpc.unary_unary_rpc_method_handler(self._export)
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(EXPORT.split("/")[1], {"Export": handler})]
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        yield f"127.0.0.1:{port}"
        await server.stop(0)

    async def _export(self, request: bytes, context: Any) -> bytes:
        self.metadata = dict(context.invocation_metadata())
        for resource in ExportTraceServiceRequest.FromString(request).resource_spans:
            of = {each.key: each.value.string_value for each in resource.resource.attributes}
            service = of["service.name"]
            self.spans += [(service, span.name, span.trace_id) for span in resource.scope_spans[0].spans]
        return b""


TRACED = ("traceparent", f"00-{0xABC:032x}-{1:016x}-01")
EXPECTED = [("context", "parley.context.v1.ContextService/GetStats", (0xABC).to_bytes(16))]


async def traced_call(address: str, keys_dir: Path) -> None:
    """A call of dialog's, in a trace that is recorded. The service does not implement it."""
    async with grpc.aio.insecure_channel(address) as channel:
        token = tokens_of(keys_dir, "dialog").token("context")
        call: Any = channel.unary_unary("/parley.context.v1.ContextService/GetStats")
        with pytest.raises(grpc.aio.AioRpcError):
            await call(b"", metadata=(("authorization", f"Bearer {token}"), TRACED))


async def test_its_spans_reach_telemetry_and_a_further_backend(
    script: Path, environment: dict[str, str], keys_dir: Path
) -> None:
    ours, further = Collector(), Collector()
    async with ours.listening() as address, further.listening() as other:
        sent = {
            "PARLEY_TELEMETRY_ADDRESS": address,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{other}",
            "OTEL_EXPORTER_OTLP_HEADERS": "x-key=abc",
        }
        async with process(script, environment={**environment, **sent}) as service:
            serving = await first_event(service)
            await traced_call(serving["address"], keys_dir)
            async with asyncio.timeout(30):
                while not (ours.spans and further.spans):
                    await asyncio.sleep(0.02)
            service.terminate()
            await events(service)
    assert ours.spans == further.spans == EXPECTED
    assert Verifier(Keys(keys_dir), "telemetry").verify(ours.metadata["authorization"][7:]).name == "context"
    assert further.metadata["x-key"] == "abc"
    assert "authorization" not in further.metadata


async def test_what_was_not_sent_yet_is_sent_at_its_end(
    script: Path, environment: dict[str, str], keys_dir: Path
) -> None:
    collector = Collector()
    async with collector.listening() as address:
        late = {"PARLEY_TELEMETRY_ADDRESS": address, "OTEL_BSP_SCHEDULE_DELAY": "3600000"}
        async with process(script, environment={**environment, **late}) as service:
            serving = await first_event(service)
            await traced_call(serving["address"], keys_dir)
            assert collector.spans == []
            service.terminate()
            assert [line["event"] for line in await events(service)] == ["stopping", "stopped"]
    assert collector.spans == EXPECTED


@pytest.mark.skipif(sys.platform != "linux", reason="a promise of Linux only")
async def test_it_ends_with_its_parent(script: Path, environment: dict[str, str], tmp_path: Path) -> None:
    supervisor = tmp_path / "supervisor.py"
    supervisor.write_text(dedent(PARENT))
    async with process(supervisor, script, environment=environment) as parent:
        assert parent.stdout is not None
        async with asyncio.timeout(60):
            line = (await parent.stdout.readline()).decode()
        service = psutil.Process(int(line.split()[0]))
        parent.kill()
        async with asyncio.timeout(30):
            while service.is_running() and service.status() != psutil.STATUS_ZOMBIE:
                await asyncio.sleep(0.02)
