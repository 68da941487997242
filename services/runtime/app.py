"""What a service's wiring returns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from services.runtime.background import Background
from services.runtime.health import Check


@dataclass
class App:
    """The parts of a service that the runtime runs."""

    servicers: Sequence[tuple[str, Callable[[Any, grpc.aio.Server], None], object]] = ()
    """For each gRPC service: its full name, `add_XServicer_to_server`, and its servicer. Without any there is no
    gRPC server."""
    background: Sequence[Background] = ()
    """What runs beside the calls."""
    checks: Mapping[str, Check] = field(default_factory=dict)
    """What the service works with, by name; drives its health. Each is told under its name as well."""
    spared: frozenset[str] = frozenset()
    """Names of checks that the service can do without: told, but no reason to call it unhealthy."""
    extra_access: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Callers of RPCs whose contract is not ours, by full method path."""
    extra_ports: Sequence[str] = ()
    """Further addresses to listen on, as `host:port`."""
