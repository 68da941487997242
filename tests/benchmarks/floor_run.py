"""Start the floor on an embedded PostgreSQL of its own, as the stack has it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.local.embedded import EmbeddedPostgres
from tests.benchmarks.measure import Subject
from tests.benchmarks.processes import Watched
from tests.benchmarks.script import Target

LINES = ("Здравствуйте",)


@dataclass(frozen=True)
class Floor:
    """A running floor."""

    subject: Subject
    target: Target
    port: int


@asynccontextmanager
async def floor(folder: Path, sink_url: str) -> AsyncIterator[Floor]:
    """A floor that answers to `sink_url`; its data lies in `folder`, which exists."""
    postgres = EmbeddedPostgres(folder / "postgres")
    postgres.start()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.benchmarks.floor", postgres.url, sink_url), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        assert postgres.pid is not None
        try:
            port = int(await asyncio.wait_for(process.stdout.readline(), 30))
            watched = [
                Watched("floor", process.pid),
                Watched("postgres", postgres.pid, tree=True),
                Watched("load", os.getpid(), counted=False),
            ]
            yield Floor(Subject(watched, postgres.url), Target("/", f"127.0.0.1:{port}", "none"), port)
        finally:
            process.send_signal(signal.SIGTERM)
            await process.wait()
    finally:
        postgres.stop()
