"""The processes of the stack, and the environment of each."""

import importlib.util
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from deploy.local.environment import of_service, of_system, variables
from deploy.local.home import ROOT, Home
from deploy.local.ports import LOOPBACK, PORTS, Port
from deploy.local.probes import Probe, calling, grpc_health, http_ok
from deploy.local.process import BACKOFF_LONGEST, Spec
from deploy.local.roles import OWNERS
from deploy.local.server import EmbeddedServer, child_command
from deploy.local.stores import Stores


@dataclass(frozen=True)
class Service:
    """One of our services. Lower stages stop first; `drain` is the seconds that stopping may take.

    A service with a higher `nice` lets others have the processor first: no answer to a webhook waits for it.
    """

    name: str
    stage: int
    drain: float
    nice: int = 0
    http_probe: str = ""
    """A path that answers 200 if the service is healthy; empty for gRPC health."""
    redis: bool = False
    """Whether it gets the address of Redis."""
    measured: bool = True
    """Whether it shows metrics."""


STORES_STAGE = 4
KILL_AFTER_DRAIN = 0.5
"""Seconds between the end of the time for draining and the kill."""

# Inwards: no new messages, then no new turns, then no new sends, then what all of these call. The times add up to less
# than 15 seconds with the stores' own; what is not finished by then is taken over at the next start.
SERVICES = (
    Service("edge", stage=0, drain=2.5, http_probe="/health/live"),
    Service("console", stage=0, drain=1.0, http_probe="/health/live"),
    Service("dialog", stage=1, drain=4.5, redis=True),
    Service("delivery", stage=2, drain=3.0, nice=5, redis=True),
    Service("context", stage=3, drain=1.0, nice=5, redis=True),
    Service("limits", stage=3, drain=1.0, nice=5, redis=True),
    Service("telemetry", stage=3, drain=1.0, nice=10),
    Service("simulator", stage=3, drain=0.5, http_probe="/health", measured=False),
)
GRPC = ("context", "dialog", "limits", "delivery", "telemetry")


@dataclass(frozen=True)
class Layout:
    """The places of one stack: its state, ports and stores."""

    home: Home
    ports: Mapping[str, int]
    stores: Stores
    given: Mapping[str, str]
    """The environment that the stack was started with."""

    def address(self, name: str) -> str:
        """`host:port` of a service."""
        return f"{LOOPBACK}:{self.ports[name]}"

    def url(self, name: str) -> str:
        """The URL of an HTTP service."""
        return f"http://{self.address(name)}"


def present() -> list[Service]:
    """Returns the services that this tree has."""
    return [service for service in SERVICES if has_service(service.name)]


def ports_of(services: Collection[Service]) -> dict[str, Port]:
    """Returns the ports that these services take."""
    names = {service.name for service in services} | set(GRPC) | {"otlp", "metrics"}
    pages = {metrics_of(service.name): Port(0) for service in services if service.measured}
    return {name: port for name, port in PORTS.items() if name in names} | pages


def metrics_of(service: str) -> str:
    """Returns the name of the port for a service's own page of metrics."""
    return f"{service}-metrics"


def has_service(name: str) -> bool:
    try:
        return importlib.util.find_spec(f"services.{name}.__main__") is not None
    except ModuleNotFoundError:
        return False


def environment(layout: Layout, service: Service) -> dict[str, str]:
    """Returns the environment of a service: its settings, addresses, stores, keys and drain time."""
    values = of_service(layout.given, service.name)
    values |= {
        "PARLEY_HOME": str(layout.home.path),
        "PARLEY_HOST": LOOPBACK,
        "PARLEY_KEYS_DIR": str(layout.home.keyring(service.name)),
        "PARLEY_DRAIN_SECONDS": str(drain_of(layout, service)),
        "PYTHONUNBUFFERED": "1",
    }
    ports = {f"PARLEY_{name.upper()}_PORT": str(port) for name, port in layout.ports.items()}
    values |= {name: port for name, port in ports.items() if name in variables(service.name)}
    values["PARLEY_METRICS_PORT"] = str(layout.ports.get(metrics_of(service.name), -1))
    values |= {f"PARLEY_{name.upper()}_ADDRESS": layout.address(name) for name in GRPC}
    if service.name in OWNERS:
        values["PARLEY_DATABASE_URL"] = layout.stores.database_of(service.name)
    if service.redis:
        values["PARLEY_REDIS_URL"] = layout.stores.redis_url
    if service.name == "edge":
        values["PARLEY_EDGE_CHAT2DESK_CHANNEL"] = layout.given.get("PARLEY_EDGE_CHAT2DESK_CHANNEL") or "demo-chat2desk"
    if service.name == "telemetry":
        values["PARLEY_TELEMETRY_ADDRESS"] = ""  # it does not trace itself
    if service.name == "context":
        # One process serves everybody here, and 5,000 conversations of a few kilobytes are little.
        values["PARLEY_CONTEXT_MEMORY_ENTRIES"] = layout.given.get("PARLEY_CONTEXT_MEMORY_ENTRIES") or "5000"
    if service.name == "delivery":
        # The simulator is one of this machine's own servers.
        values["PARLEY_EGRESS_ALLOW"] = f"loopback,{layout.given.get('PARLEY_EGRESS_ALLOW', '')}"
    if service.name == "dialog":
        # One process has all turns here; most of the time they wait for somebody else.
        values["PARLEY_DIALOG_WORKERS"] = layout.given.get("PARLEY_DIALOG_WORKERS") or "128"
        values |= model_environment(layout)
    return values


def model_environment(layout: Layout) -> dict[str, str]:
    """Returns where models are asked: as given or, with neither key nor address, at the simulator."""
    if layout.given.get("OPENAI_API_KEY") or layout.given.get("OPENAI_BASE_URL"):
        return {}
    return {"OPENAI_BASE_URL": f"{layout.url('simulator')}/openai/v1", "OPENAI_API_KEY": "scripted"}


def drain_of(layout: Layout, service: Service) -> float:
    given = layout.given.get("PARLEY_DRAIN_SECONDS", "")
    return float(given) if given else service.drain


def service_spec(layout: Layout, service: Service) -> Spec:
    """Returns how to run one of our services."""
    probe: Probe = (
        http_ok(LOOPBACK, layout.ports[service.name], service.http_probe)
        if service.http_probe
        else grpc_health(layout.address(service.name))
    )
    command = child_command([sys.executable, "-m", f"services.{service.name}"], nice=service.nice)
    return Spec(
        name=service.name,
        command=lambda: command,
        probe=probe,
        log=layout.home.log(service.name),
        address=layout.address(service.name),
        environment=environment(layout, service),
        folder=ROOT,
        stop_within=drain_of(layout, service) + KILL_AFTER_DRAIN,
        stage=service.stage,
        longest_pause=float(layout.given.get("PARLEY_RESTART_LONGEST_SECONDS") or BACKOFF_LONGEST),
        needs=frozenset({"postgres", "redis"}),
    )


def store_specs(servers: list[EmbeddedServer], given: Mapping[str, str]) -> list[Spec]:
    """Returns how to run the embedded stores."""
    return [
        Spec(
            name=server.name,
            command=server.command,
            probe=calling(server.ready),
            log=server.log,
            environment=of_system(given),
            address=str(server.sockets),
            prepare=server.prepare,
            stop_signal=server.stop_signal,
            stop_within=1.5,
            stage=STORES_STAGE,
        )
        for server in servers
    ]
