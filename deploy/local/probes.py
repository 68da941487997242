"""Is it healthy? Each probe answers within its time, and raises nothing for a server that is away."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import Enum
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


class Health(Enum):
    """What a probe found."""

    WELL = "well"
    UNWELL = "answers, and says that it cannot serve"
    SILENT = "does not answer"


Probe = Callable[[], Awaitable[Health]]

WITHIN = 2.0
"""Seconds that a probe may take."""


def grpc_health(address: str) -> Probe:
    """Asks `grpc.health.v1` for the server as a whole."""
    stub: Any = None  # the package has no types; made at first use, on the loop that uses it

    async def probe() -> Health:
        nonlocal stub
        if stub is None:
            options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000)]
            stub = health_pb2_grpc.HealthStub(grpc.aio.insecure_channel(address, options))
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=WITHIN)
        except grpc.aio.AioRpcError:
            return Health.SILENT
        return Health.WELL if answer.status == health_pb2.HealthCheckResponse.SERVING else Health.UNWELL

    return probe


def http_ok(host: str, port: int, path: str) -> Probe:
    """Asks for a page, which must answer 200."""

    async def ask() -> Health:
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
            return Health.WELL if b" 200 " in await reader.readline() else Health.UNWELL
        finally:
            writer.close()

    async def probe() -> Health:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(WITHIN):
                return await ask()
        return Health.SILENT

    return probe


def calling(ready: Callable[[], bool]) -> Probe:
    """Asks a function that takes a moment at most."""

    async def probe() -> Health:
        return Health.WELL if await asyncio.to_thread(ready) else Health.SILENT

    return probe
