"""The supervisor, with small processes in the place of services."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from deploy.local.probes import Health, Polled
from deploy.local.process import Spec, backoff
from deploy.local.server import child_command
from deploy.local.supervisor import StartFailed, Supervisor

Reports = list[tuple[str, str, str]]

SERVE = """
import pathlib, signal, sys, time
mark = pathlib.Path(sys.argv[1])
def stop(*_):
    with mark.with_name("stopped").open("a") as file:
        file.write(mark.name + "\\n")
    mark.unlink()
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
mark.write_text("up")
while True:
    time.sleep(0.02)
"""


class Stand:
    """Makes specs of processes that write a file while they are well."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.reports: Reports = []
        self.probes: Counter[str] = Counter()
        self.when_gone = Health.SILENT
        self.supervisor = Supervisor(report=lambda *line: self.reports.append(line))
        self.patch = monkeypatch

    def spec(self, name: str, code: str = SERVE, **overrides: object) -> Spec:
        mark = self.folder / name

        async def probe() -> Health:
            self.probes[name] += 1
            return Health.WELL if mark.exists() else self.when_gone

        command = child_command([sys.executable, "-S", "-c", code, mark])
        log = self.folder / f"{name}.log"
        return Spec(name=name, command=lambda: command, probe=Polled(probe), log=log, **overrides)  # type: ignore[arg-type]

    def pid(self, name: str) -> int | None:
        return self.supervisor.processes[name].pid


async def until(condition: Callable[[], object], within: float = 30.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.02)


@pytest.fixture
async def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stand]:
    stand = Stand(tmp_path, monkeypatch)
    yield stand
    stand.supervisor.kill()
    await stand.supervisor.stop()


def test_pauses_grow_from_a_fifth_of_a_second_to_five() -> None:
    assert [backoff(ends) for ends in (1, 2, 3, 4, 5, 6, 50)] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


async def test_a_process_that_dies_is_started_again(stand: Stand) -> None:
    await stand.supervisor.start([stand.spec("one")], within=60)
    first = stand.pid("one")
    assert first
    os.kill(first, signal.SIGKILL)
    process = stand.supervisor.processes["one"]
    await until(lambda: process.restarts == 1 and process.pid not in (None, first) and process.healthy)
    assert stand.reports[0][:2] == ("one", "error")
    assert "SIGKILL" in stand.reports[0][2]


async def test_a_process_that_stays_unhealthy_is_started_again(stand: Stand) -> None:
    stand.patch.setattr("deploy.local.process.POLL_RUNNING", 0.1)
    await stand.supervisor.start([stand.spec("one")], within=60)
    stand.patch.setattr("deploy.local.process.UNHEALTHY_FOR", 2.0)  # time enough for its successor to start
    first = stand.pid("one")
    (stand.folder / "one").rename(stand.folder / "hidden")
    process = stand.supervisor.processes["one"]
    await until(lambda: process.restarts >= 1 and process.pid not in (None, first) and process.healthy)


async def test_a_process_is_not_blamed_while_what_it_needs_is_away(stand: Stand) -> None:
    stand.patch.setattr("deploy.local.process.POLL_RUNNING", 0.05)
    await stand.supervisor.start([stand.spec("store"), stand.spec("user", needs=frozenset({"store"}))], within=60)
    store, user = (stand.supervisor.processes[name] for name in ("store", "user"))
    pid = user.pid
    await store.stop()
    await until(lambda: not store.healthy)
    stand.patch.setattr("deploy.local.process.UNHEALTHY_FOR", 0.2)
    (stand.folder / "user").unlink()
    probed = stand.probes["user"]
    await until(lambda: stand.probes["user"] > probed + 20)  # long past the time after which it would be ended
    assert user.pid == pid
    assert user.restarts == 0
    (stand.folder / "user").write_text("up")


async def test_a_process_that_answers_is_not_blamed_for_a_store_that_is_not_ours(stand: Stand) -> None:
    stand.patch.setattr("deploy.local.process.POLL_RUNNING", 0.05)
    stand.when_gone = Health.UNWELL
    await stand.supervisor.start([stand.spec("user", needs=frozenset({"given"}))], within=60)
    process = stand.supervisor.processes["user"]
    stand.patch.setattr("deploy.local.process.UNHEALTHY_FOR", 0.2)
    (stand.folder / "user").rename(stand.folder / "hidden")
    probed = stand.probes["user"]
    await until(lambda: stand.probes["user"] > probed + 20)
    assert process.restarts == 0
    stand.patch.setattr("deploy.local.process.UNHEALTHY_FOR", 2.0)  # time enough for its successor to start
    stand.when_gone = Health.SILENT
    await until(lambda: process.restarts == 1 and process.healthy)


async def test_processes_stop_in_the_order_of_their_stages(stand: Stand) -> None:
    specs = [stand.spec("last", stage=3), stand.spec("first", stage=0), stand.spec("middle", stage=1)]
    await stand.supervisor.start(specs, within=60)
    await stand.supervisor.stop()
    assert (stand.folder / "stopped").read_text().split() == ["first", "middle", "last"]
    assert stand.reports == []


async def test_a_process_that_ignores_the_order_to_stop_is_killed(stand: Stand) -> None:
    stubborn = SERVE.replace("signal.signal(signal.SIGTERM, stop)", "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    await stand.supervisor.start([stand.spec("one", stubborn, stop_within=0.2)], within=60)
    pid = stand.pid("one")
    assert pid
    await stand.supervisor.stop()
    assert not psutil.pid_exists(pid)


async def test_a_start_that_cannot_work_is_given_up_soon(stand: Stand) -> None:
    with pytest.raises(StartFailed, match="ended 3 times"):
        await stand.supervisor.start([stand.spec("one", "raise SystemExit(3)")], within=60)
    assert "exited with code 3" in stand.reports[0][2]


async def test_a_start_that_takes_too_long_is_given_up(stand: Stand) -> None:
    with pytest.raises(StartFailed, match="not healthy within"):
        await stand.supervisor.start([stand.spec("one", "import time; time.sleep(60)")], within=0.5)


SUPERVISE = """
import asyncio, sys
from pathlib import Path
from tests.integration.local.test_supervisor import SERVE
from deploy.local.server import child_command
from deploy.local.probes import Health, Polled
from deploy.local.process import Spec
from deploy.local.supervisor import Supervisor

async def main():
    mark = Path(sys.argv[1]) / "one"
    async def probe():
        return Health.WELL if mark.exists() else Health.SILENT
    command = child_command([sys.executable, "-S", "-c", SERVE, mark])
    supervisor = Supervisor(report=print)
    await supervisor.start([Spec("one", lambda: command, Polled(probe), mark.with_name("log"))], within=60)
    print(supervisor.processes["one"].pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs parent-death signals")
def test_no_process_survives_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SUPERVISE, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        child = psutil.Process(int(supervisor.stdout.readline()))
        supervisor.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the child is left behind"
        time.sleep(0.02)


async def test_a_process_that_does_not_answer_and_is_back_is_told_with_the_time_it_was_away(stand: Stand) -> None:
    stand.patch.setattr("deploy.local.process.POLL_RUNNING", 0.05)
    await stand.supervisor.start([stand.spec("edge")], 30)
    mark = stand.folder / "edge"
    mark.unlink()
    await until(lambda: ("edge", "warning", "does not answer") in stand.reports)
    mark.write_text("up")
    await until(lambda: any(sentence.startswith("is back after ") for _, _, sentence in stand.reports))
    assert stand.supervisor.processes["edge"].restarts == 0
