"""What is found of a server that goes away in the ways in which servers do."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest

from deploy.local import probes
from deploy.local.probes import GrpcHealth, Health
from parley_client.channel import OPTIONS as CLIENT
from services.runtime.server import OPTIONS as SERVING

SERVER = """
import asyncio
import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

async def main():
    server = grpc.aio.server(options=[("grpc.http2.min_ping_interval_without_data_ms", 50)])
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture
def server() -> Iterator[tuple[int, str]]:
    """Process id and address of one that says that it is well."""
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.pid, f"127.0.0.1:{process.stdout.readline().strip()}"
    process.kill()
    process.wait()
    process.stdout.close()


async def test_a_process_that_hangs_is_noticed_however_long_it_was_well(
    server: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = {name: 1000 for name, _ in probes.OPTIONS if "timeout" in name} | {"grpc.keepalive_time_ms": 200}
    monkeypatch.setattr(probes, "OPTIONS", [(name, quick.get(name, value)) for name, value in probes.OPTIONS])
    pid, address = server
    probe = GrpcHealth(address)
    assert await probe() is Health.WELL
    await asyncio.sleep(4.0)  # some pings; there is one a second at most
    os.kill(pid, signal.SIGSTOP)
    await probe.rest(15.0)
    assert await probe() is Health.SILENT


@pytest.mark.parametrize("turns", range(5))
async def test_a_look_at_a_process_ends_with_it_also_when_its_health_changes_with_that(turns: int) -> None:
    probe = GrpcHealth("127.0.0.1:1")
    resting = asyncio.create_task(probe.rest(30.0))
    await asyncio.sleep(0.01)
    probe._tell(Health.WELL)
    for _ in range(turns):
        await asyncio.sleep(0)
    ended_before = resting.done()
    resting.cancel()
    await asyncio.wait({resting}, timeout=5.0)
    assert ended_before or resting.cancelled()


@pytest.mark.parametrize("options", [probes.OPTIONS, CLIENT, SERVING])
def test_silence_is_noticed_in_the_time_that_keepalive_has(options: Sequence[tuple[str, object]]) -> None:
    """gRPC gives pings a minute unless it is told so by another name, and sends two without data unless told."""
    given = dict(options)
    assert given["grpc.http2.ping_timeout_ms"] == given["grpc.keepalive_timeout_ms"]
    assert given["grpc.http2.max_pings_without_data"] == 0
