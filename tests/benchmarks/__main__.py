"""`make bench`: messages a second, latency, CPU and memory of the whole stack, beside a floor.

make bench
.venv/bin/python -m tests.benchmarks --only closed --seconds 30 --json bench.json
"""

import argparse
import sys
from pathlib import Path

import uvloop
from rich.console import Console

from tests.benchmarks.plan import TRACINGS, Bench, Options, save
from tests.benchmarks.profile import NoProfiler, find_profiler
from tests.benchmarks.rehearsal import RehearsalFailed
from tests.benchmarks.report import show
from tests.benchmarks.stack import StackFailed

WIDTH = 160
"""Columns, where the output is no terminal."""


def parse(arguments: list[str]) -> tuple[Options, Path | None]:
    """The options, and where JSON goes."""
    defaults = Options()
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--seconds", type=float, default=defaults.seconds, help="length of a closed run")
    parser.add_argument("--people", type=int, default=defaults.people, help="people who talk at once (closed load)")
    parser.add_argument("--rates", default="100,200,400", help="messages a second (open load), with commas")
    parser.add_argument("--channels", type=int, default=defaults.channels, help="channels that people are spread over")
    parser.add_argument("--regulars", action="store_true", help="the same people order again and again")
    parser.add_argument("--only", choices=sorted(defaults.parts), action="append", help="may be repeated")
    parser.add_argument("--tracing", default="defaults,all,tenth", help="which of: " + ", ".join(TRACINGS))
    parser.add_argument("--profile", default="", help="services to profile with py-spy in the first closed run")
    parser.add_argument("--native", action="store_true", help="profile C code as well")
    parser.add_argument("--profiles", type=Path, help="existing folder that keeps the profiles' raw stacks")
    parser.add_argument("--keep", action="store_true", help="leave the stack's logs and data where they are")
    parser.add_argument("--set", action="append", default=[], metavar="PARLEY_X=Y", help="a setting of the stack")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    given = parser.parse_args(arguments)
    options = Options(
        seconds=given.seconds,
        people=given.people,
        rates=[float(rate) for rate in given.rates.split(",")],
        channels=given.channels,
        regulars=given.regulars,
        parts=frozenset(given.only or defaults.parts),
        tracings=given.tracing.split(","),
        profiled=[name for name in given.profile.split(",") if name],
        native=given.native,
        profiles=given.profiles,
        keep=given.keep,
        environment=dict(setting.split("=", 1) for setting in given.set),
    )
    if unknown := set(options.tracings) - set(TRACINGS):
        parser.error(f"--tracing: {', '.join(unknown)} is none of {', '.join(TRACINGS)}")
    return options, given.json


def main() -> int:
    options, json_file = parse(sys.argv[1:])
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    bench = Bench(options, console)
    try:
        if options.profiled:
            find_profiler()
        uvloop.run(bench.run())
    except (NoProfiler, RehearsalFailed, StackFailed) as error:
        Console(stderr=True).print(f"[red]{error}[/red]")
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if json_file is not None:
            save(bench.report, json_file)
        if bench.report.floor or bench.report.runs:
            show(bench.report, console)
    lost = any(run.tally.unanswered or run.tally.wrong or run.problems for run in bench.report.runs)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
