"""The embedded servers: what they promise to the stack and to the tests that crash them."""

import os
import pwd
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis

from deploy.local.embedded import EmbeddedPostgres, EmbeddedRedis, ServerFailed
from deploy.local.server import child_command
from deploy.local.sockets import UnsafeSocketDir, private
from tests.support.stores import OldRedis


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(tmp_path / "postgres")
    yield server
    server.stop()


@pytest.fixture
def embedded_redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    server = EmbeddedRedis(tmp_path / "redis")
    yield server
    server.stop()


async def values(server: EmbeddedPostgres) -> list[int]:
    connection = await asyncpg.connect(server.url)
    try:
        return [row[0] for row in await connection.fetch("SELECT n FROM kept ORDER BY n")]
    finally:
        await connection.close()


async def keep(server: EmbeddedPostgres, number: int) -> None:
    connection = await asyncpg.connect(server.url)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
        await connection.execute("INSERT INTO kept VALUES ($1)", number)
    finally:
        await connection.close()


def no_ports(pid: int | None) -> bool:
    return not psutil.Process(pid).net_connections(kind="inet")


async def test_postgres_keeps_its_data_over_a_crash_and_a_restart(postgres: EmbeddedPostgres) -> None:
    postgres.start()
    await keep(postgres, 1)
    postgres.kill()
    postgres.start()
    await keep(postgres, 2)
    postgres.restart()
    assert await values(postgres) == [1, 2]


async def test_postgres_listens_on_a_private_unix_socket_only(postgres: EmbeddedPostgres) -> None:
    postgres.start()
    assert no_ports(postgres.pid)
    assert stat.S_IMODE(postgres.sockets.stat().st_mode) == 0o700
    connection = await asyncpg.connect(postgres.url)
    assert await connection.fetchval("SHOW fsync") == "on"
    assert await connection.fetchval("SHOW synchronous_commit") == "on"
    assert await connection.fetchval("SHOW listen_addresses") == ""
    await connection.close()


async def test_a_server_left_by_somebody_else_is_ended_before_a_new_one_starts(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    postgres.start()
    await keep(postgres, 7)
    successor = EmbeddedPostgres(tmp_path / "postgres")
    successor.start()
    try:
        assert postgres.pid is None
        assert await values(successor) == [7]
    finally:
        successor.stop()


def test_a_stale_pid_file_of_an_unrelated_process_does_not_hinder(postgres: EmbeddedPostgres) -> None:
    postgres.start()
    file = postgres.data_dir / "postmaster.pid"
    content = file.read_text().splitlines()
    postgres.stop()
    file.write_text("\n".join([str(os.getpid()), *content[1:]]) + "\n")
    os.chown(file, postgres.data_dir.stat().st_uid, -1)
    postgres.start()
    assert postgres.pid is not None


def test_a_broken_setting_is_reported_with_the_end_of_the_log(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "postgres", durable=False, options={"shared_buffers": "nonsense"})
    with pytest.raises(ServerFailed, match="nonsense"):
        server.start()


def test_redis_keeps_its_data_over_a_restart_and_opens_no_port(embedded_redis: EmbeddedRedis) -> None:
    embedded_redis.start()
    client = redis.Redis.from_url(embedded_redis.url)
    client.set("kept", "yes")
    assert no_ports(embedded_redis.pid)
    assert client.config_get("appendfsync") == {"appendfsync": "everysec"}
    embedded_redis.restart()
    assert client.get("kept") == b"yes"
    client.close()


def test_redis_starts_again_after_a_crash(embedded_redis: EmbeddedRedis) -> None:
    embedded_redis.start()
    embedded_redis.kill()
    assert embedded_redis.pid is None
    embedded_redis.start()
    assert embedded_redis.ready()


def test_the_data_of_the_redis_that_stacks_had_before_is_taken_over(tmp_path: Path) -> None:
    before, after = OldRedis(tmp_path / "redis"), EmbeddedRedis(tmp_path / "redis")
    for server, kept in ((before, None), (after, b"yes"), (after, b"yes")):
        server.start()
        client = redis.Redis.from_url(server.url)
        assert client.get("kept") == kept
        client.set("kept", "yes")
        client.hset("counter", "used", "7")
        client.close()
        server.stop()
    assert (tmp_path / "redis" / "appendonlydir").is_dir()


def test_a_redis_of_the_version_before_that_was_left_running_is_ended(tmp_path: Path) -> None:
    before, after = OldRedis(tmp_path / "redis"), EmbeddedRedis(tmp_path / "redis")
    before.start()
    client = redis.Redis.from_url(before.url)
    client.set("kept", "yes")
    client.close()
    after.start()
    try:
        assert before.pid is None
        client = redis.Redis.from_url(after.url)
        assert client.get("kept") == b"yes"
        client.close()
    finally:
        after.stop()


def test_redis_is_one_that_gets_security_fixes(embedded_redis: EmbeddedRedis) -> None:
    embedded_redis.start()
    client = redis.Redis.from_url(embedded_redis.url)
    version = client.info("server")["valkey_version"]
    client.close()
    assert tuple(map(int, version.split("."))) >= (9, 1, 2)


WHO = "import os, sys; print(os.getuid(), os.access(sys.argv[1], os.R_OK), open('/proc/self/status').read())"


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs to be root, on Linux")
def test_who_gives_up_root_still_reaches_closed_folders_and_can_do_nothing_else(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "file").touch(mode=0o600)
    command = child_command([sys.executable, "-S", "-c", WHO, closed / "file"], drop_root=True)
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert out.startswith(f"{pwd.getpwnam('nobody').pw_uid} True ")
    for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
        assert f"{kind}:\t0000000000000002\n" in out


ORPHANED = """
import sys, time
from pathlib import Path
from deploy.local.embedded import EmbeddedPostgres, EmbeddedRedis
home = Path(sys.argv[1])
servers = [EmbeddedPostgres(home / "postgres", durable=False), EmbeddedRedis(home / "redis")]
for server in servers:
    server.start()
print(*(server.pid for server in servers), flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs parent-death signals")
def test_servers_end_when_the_process_that_started_them_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ORPHANED, str(tmp_path)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        servers = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while any(server.is_running() and server.status() != psutil.STATUS_ZOMBIE for server in servers):
        assert time.monotonic() < deadline, "servers are left behind"
        time.sleep(0.05)


def test_a_socket_folder_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to(tmp_path / "open")
    for folder in ("open", "link"):
        with pytest.raises(UnsafeSocketDir):
            private(tmp_path / folder)
