"""The checks of `parley doctor`. Each looks at one thing and says what to do about a problem."""

import json
import os
import shutil
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Literal

from parley_cli import local
from parley_cli.faults import Fault
from parley_cli.queues import backlog, queues_of, reasons_of
from parley_cli.troubles import trouble

Level = Literal["ok", "warning", "error"]
PATIENCE = 5.0
DISK_WANTED = 1024**3
"""Bytes."""
CLOCK_TOLERANCE = 30.0


@dataclass(frozen=True)
class Finding:
    """What one check found. `todo` is empty if there is nothing to do."""

    name: str
    level: Level
    message: str
    todo: str = ""

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def examine() -> list[Finding]:
    """Runs all checks; without a running stack, only those that do not need one."""
    findings = [python(), disk(local.home()), keys(local.home())]
    try:
        stack = local.stack()
    except Fault as fault:
        findings.append(Finding("stack", "warning", fault.message, fault.hint))
        return [*findings, *environment(running=False), *model({})]
    level: Level = "warning" if stack["state"] == "degraded" else "ok"
    findings.append(Finding("stack", level, f"{stack['state']}, process {stack['pid']}, in {stack['home']}"))
    found = [*findings, *environment(running=True), *processes(stack), *stores(stack)]
    if stack["state"] in ("ready", "degraded"):
        found += queues(stack)
    return [*found, *model(stack)]


def python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", "ok", f"{version} in {sys.prefix}")


def disk(home: Path) -> Finding:
    """Checks that there is room for the databases."""
    folder = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    words = f"{free / 1024**3:.1f} GiB free at {folder}"
    if free < DISK_WANTED:
        return Finding("disk", "error", words, "Free some space, or move the state with PARLEY_HOME.")
    return Finding("disk", "ok", words)


def keys(home: Path) -> Finding:
    """Checks that only their owner can read the keys and the copies that processes get."""
    folder = home / "keys"
    if not folder.is_dir():
        return Finding("keys", "ok", f"none in {folder} yet; the first start makes them")
    files = [path for top in (folder, home / "keyrings") if top.is_dir() for path in (top, *top.rglob("*"))]
    open_to_others = [path for path in files if stat.S_IMODE(path.stat().st_mode) & 0o077]
    if open_to_others:
        names = " ".join(str(path) for path in open_to_others)
        return Finding("keys", "error", f"others can read {names}", f"chmod go= {names}")
    return Finding("keys", "ok", f"readable by their owner only, in {folder}")


def environment(*, running: bool) -> list[Finding]:
    """Lets the stack itself look for variables that nothing reads and ports that it cannot take."""
    command = [sys.executable, "-P", "-m", "deploy.local", "check", *(["--running"] if running else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found = [Finding(**problem) for problem in json.loads(done.stdout)]
    except ValueError:
        why = done.stderr.strip().splitlines()[-1:] or ["it ended without a word"]
        return [Finding("settings", "error", f"cannot be checked: {why[0]}", "Run `make setup`.")]
    return found or [Finding("settings", "ok", "every PARLEY_ variable is known, and all ports are free")]


def processes(stack: Mapping[str, Any]) -> list[Finding]:
    """Checks every process of the stack."""
    findings = []
    for process in stack["processes"]:
        name, sentence = process["name"], trouble(process)
        todo = f"`parley logs {name}` says more."
        if not process["healthy"]:
            findings.append(Finding(name, "error", sentence, todo))
        elif sentence:
            findings.append(Finding(name, "warning", sentence, todo))
        else:
            findings.append(Finding(name, "ok", f"healthy at {process['address']}"))
    return findings


def stores(stack: Mapping[str, Any]) -> list[Finding]:
    """Checks PostgreSQL and Redis as the services reach them. What no service could be asked about is unknown."""
    url = stack.get("urls", {}).get("edge")
    if not url:
        return []
    answer = fetch(f"{url}/health")
    if answer is None:
        return [Finding("health", "error", f"{url}/health does not answer", "`parley status` shows what runs.")]
    return [
        judge_store(name, str(answer.get(name, "unknown")), variable)
        for name, variable in (("postgres", "PARLEY_DATABASE_URL"), ("redis", "PARLEY_REDIS_URL"))
    ]


def judge_store(name: str, word: str, variable: str) -> Finding:
    if word == "ok":
        return Finding(name, "ok", "reached by the services")
    if word == "unknown":
        return Finding(name, "warning", "unknown: no service could be asked", "`parley status` shows what runs.")
    return Finding(name, "error", f"the services say: {word}", f"Check {variable} and its server.")


def queues(stack: Mapping[str, Any]) -> list[Finding]:
    """Checks for dead messages and replies, and for those that wait for too long."""
    counted = queues_of(stack)
    found = [Finding("queues", "warning", sentence, f"`{command}`") for sentence, command in backlog(counted)]
    for name, numbers in counted.items():
        if "error" in numbers:
            found.append(Finding("queues", "warning", f"{name} is unknown: {numbers['error']}"))
    if any("waits" in finding.message for finding in found):
        tenant = str(stack.get("tenant", ""))
        found += [Finding("waits", "warning", f"for {sentence}") for sentence in reasons_of([tenant])]
    return found or [Finding("queues", "ok", "nothing is dead, and nothing waits for long")]


def fetch(url: str) -> dict[str, Any] | None:
    """Fetches a JSON page, whatever its status; returns None if there is none."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310 - the stack's own address
            body = answer.read()
    except urllib.error.HTTPError as error:
        body = error.read()
    except OSError:
        return None
    try:
        value = json.loads(body)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def model(stack: Mapping[str, Any]) -> list[Finding]:
    """Checks the model's endpoint and, by its `Date` header, this machine's clock."""
    given = os.environ.get("OPENAI_BASE_URL", "").rstrip("/")
    key = os.environ.get("OPENAI_API_KEY", "")
    simulator = stack.get("urls", {}).get("simulator", "")
    if not (given or key):
        if not simulator:
            return [Finding("model", "ok", "the simulator's scripted one; set OPENAI_API_KEY for a real one")]
        return ask_model(f"{simulator}/openai/v1", "scripted", "the simulator's scripted one")
    base = given or "https://api.openai.com/v1"
    return ask_model(base, key, base)


def ask_model(base: str, key: str, words: str) -> list[Finding]:
    request = urllib.request.Request(f"{base}/models", headers={"Authorization": f"Bearer {key}"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310 - the operator's own setting
            status, date = answer.status, answer.headers.get("Date", "")
    except urllib.error.HTTPError as error:
        status, date = error.code, error.headers.get("Date", "")
    except (OSError, ValueError) as error:
        return [
            Finding("model", "error", f"{words} cannot be reached: {error}", "Check OPENAI_BASE_URL and the network.")
        ]
    return [judge_model(status, words), *clock(date)]


def judge_model(status: int, words: str) -> Finding:
    if status in (401, 403):
        return Finding("model", "error", f"{words} refuses the key ({status})", "Check OPENAI_API_KEY.")
    if status >= 500:
        return Finding("model", "warning", f"{words} answers {status}", "It may pass; messages are tried again.")
    return Finding("model", "ok", f"{words} answers")


def clock(date: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> list[Finding]:
    """Compares this machine's clock with an HTTP `Date` header. Tokens and quotas need the right time."""
    try:
        difference = abs((parsedate_to_datetime(date) - now()).total_seconds())
    except (TypeError, ValueError):
        return []
    if difference > CLOCK_TOLERANCE:
        return [
            Finding(
                "clock", "error", f"differs by {difference:.0f} s from the model's endpoint", "Set the clock by NTP."
            )
        ]
    return [Finding("clock", "ok", "agrees with the model's endpoint")]
