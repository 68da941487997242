"""Tells what was measured: tables for people, JSON for programs. No figure is asserted; ratios are to the floor."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.crowd import Tally
from tests.benchmarks.measure import Cost, Run, quantile
from tests.benchmarks.profile import Profile
from tests.benchmarks.stages import Breakdown


@dataclass
class Report:
    """All that a bench has found."""

    machine: dict[str, str | float] = field(default_factory=dict)
    durability: dict[str, str] = field(default_factory=dict)
    floor: Run | None = None
    runs: list[Run] = field(default_factory=list)
    breakdowns: dict[str, Breakdown] = field(default_factory=dict)
    profiles: dict[str, Profile] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "machine": self.machine,
            "durability": self.durability,
            "floor": run_document(self.floor) if self.floor else None,
            "runs": [run_document(run, self.floor) for run in self.runs],
            "stages": {name: _breakdown_document(breakdown) for name, breakdown in self.breakdowns.items()},
            "profiles": {
                name: {"own": profile.top(profile.own, 40), "total": profile.top(profile.total, 60)}
                for name, profile in self.profiles.items()
            },
        }


def run_document(run: Run, floor: Run | None = None) -> dict[str, Any]:
    """A run as plain values; times in ms, rates in messages a second."""
    tally = run.tally
    document: dict[str, Any] = {
        "name": run.name,
        "seconds": round(run.seconds, 3),
        "messages": run.messages,
        "messages_per_second": round(run.rate, 1),
        "offered_per_second": run.offered_rate,
        "slowest_second": min(list(tally.by_second.values())[1:-1], default=None),
        "ack_ms": _quantiles(tally.ack_ms),
        "way_ms": _quantiles(tally.way_ms),
        "late_ms": _quantiles(tally.late_ms),
        "cpu_ms_per_message": round(run.cpu_ms, 3),
        "processes": {
            name: {
                "cpu_ms_per_message": round(cost.cpu_ms_per_message, 3),
                "cores": round(cost.cores, 3),
                "memory_mb": round(cost.memory_mb, 1),
                "counted": cost.counted,
                "wakeups_per_message": round(cost.wakeups_per_message, 3),
                "thread_wakeups_per_message": round(cost.thread_wakeups_per_message, 3),
            }
            for name, cost in run.costs.items()
        },
        "wakeups_per_message": round(run.wakeups, 3),
        "thread_wakeups_per_message": round(run.thread_wakeups, 3),
        "commits_per_message": round(run.per_message(run.database.commits), 3),
        "flushes_per_message": round(run.per_message(run.database.flushes), 3),
        "log_bytes_per_message": round(run.per_message(run.database.log_bytes)),
        "rows_per_message": round(run.per_message(run.database.rows_written), 3),
        "rows_by_table": {
            name: {kind: round(run.per_message(count), 4) for kind, count in vars(rows).items()}
            for name, rows in sorted(run.database.rows.items())
            if rows.written
        },
        "other_processes_cores": round(run.foreign_cores, 2),
        "stolen_cores": round(run.stolen_cores, 2),
        "fixed_work_ms": round(run.work_ms, 2),
        "backlog": run.backlog,
        "loss": {
            "sent": tally.sent,
            "acknowledged": tally.acknowledged,
            "answered": tally.answered,
            "unanswered": tally.unanswered,
            "dialogs": tally.dialogs,
            "refused": {str(status): count for status, count in tally.refused.items()},
            "wrong": len(tally.wrong),
            "examples": tally.wrong[:5],
        },
        "problems": run.problems,
        **run.extra,
    }
    if floor is not None and floor.rate and run.rate:
        document["cpu_ratio_to_floor"] = round(run.cpu_ms / floor.cpu_ms, 2)
        document["rate_ratio_to_floor"] = round(floor.rate / run.rate, 2)
    return document


def _quantiles(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {f"p{q * 100:g}": round(quantile(values, q), 2) for q in (0.5, 0.9, 0.99, 1.0)}


def _breakdown_document(breakdown: Breakdown) -> dict[str, Any]:
    return {
        "traces": breakdown.traces,
        "spans_per_message": round(breakdown.spans_per_message, 2),
        "rpcs_per_message": round(breakdown.rpcs_per_message, 3),
        "stages": [vars(stage) for stage in breakdown.stages],
        "spans": [vars(cost) for cost in breakdown.spans],
    }


def show(report: Report, console: Console) -> None:
    """Print the tables."""
    console.print(_summary(report))
    runs = [*([report.floor] if report.floor else []), *report.runs]
    console.print(_processes(runs))
    for name, breakdown in report.breakdowns.items():
        if breakdown.traces:
            console.print(_stages(name, breakdown))
            console.print(_spans(name, breakdown))
    for name, profile in report.profiles.items():
        console.print(_profile(name, profile))
    for run in runs:
        for problem in [*run.problems, *(f"wrong reply: {text}" for text in run.tally.wrong[:3])]:
            console.print(f"[red]{run.name}: {problem}[/red]")
    facts = {**report.machine, **report.durability}
    console.print("  ".join(f"{name} {value}" for name, value in facts.items()), style="dim")


def _summary(report: Report) -> Table:
    runs = [*([report.floor] if report.floor else []), *report.runs]
    table = Table(title="Webhook to provider", title_justify="left")
    table.add_column("")
    for run in runs:
        table.add_column(run.name, justify="right")
    floor = report.floor
    rows: list[tuple[str, Callable[[Run], str]]] = [
        ("messages/s", lambda run: f"{run.rate:.0f}" + (f" of {run.offered_rate:.0f}" if run.offered_rate else "")),
        ("  left waiting at the end", lambda run: str(run.backlog)),
        ("CPU ms a message", lambda run: f"{run.cpu_ms:.2f}"),
        ("  as a ratio to the floor", lambda run: f"{run.cpu_ms / floor.cpu_ms:.2f}" if floor else ""),
        ("ack p50 / p99, ms", lambda run: _pair(run.tally.ack_ms, ".1f")),
        ("whole way p50 / p99, ms", lambda run: _pair(run.tally.way_ms, ".0f")),
        ("commits a message", lambda run: f"{run.per_message(run.database.commits):.2f}"),
        ("  flushes to disk", lambda run: f"{run.per_message(run.database.flushes):.2f}"),
        ("  kB of log", lambda run: f"{run.per_message(run.database.log_bytes) / 1000:.2f}"),
        ("  rows written", lambda run: f"{run.per_message(run.database.rows_written):.2f}"),
        ("RPCs a message", lambda run: _rpcs(report.breakdowns.get(run.name))),
        ("wake-ups a message: main / all threads", lambda run: f"{run.wakeups:.2f} / {run.thread_wakeups:.2f}"),
        ("lost / wrong / refused", lambda run: _losses(run.tally)),
        ("noise: cores of others", lambda run: f"{run.foreign_cores:.2f}"),
        ("  cores stolen by the host", lambda run: f"{run.stolen_cores:.2f}"),
        ("  fixed work, CPU ms", lambda run: f"{run.work_ms:.1f}"),
    ]
    for name, tell in rows:
        table.add_row(name, *(tell(run) for run in runs))
    return table


def _pair(values: Sequence[float], form: str) -> str:
    return f"{quantile(values, 0.5):{form}} / {quantile(values, 0.99):{form}}"


def _rpcs(breakdown: Breakdown | None) -> str:
    return f"{breakdown.rpcs_per_message:.2f}" if breakdown and breakdown.traces else ""


def _losses(tally: Tally) -> str:
    return f"{tally.unanswered} / {len(tally.wrong)} / {sum(tally.refused.values())}"


def _processes(runs: Sequence[Run]) -> Table:
    table = Table(
        title="CPU ms a message, its wake-ups of main threads (peak memory MB) by process", title_justify="left"
    )
    table.add_column("process")
    names: dict[str, bool] = {}
    for run in runs:
        table.add_column(run.name, justify="right")
        names |= {name: cost.counted for name, cost in run.costs.items()}
    for name in sorted(names, key=lambda name: not names[name]):
        cells = []
        for run in runs:
            cost = run.costs.get(name)
            cells.append(_cost(cost) if cost else "")
        table.add_row(name if names[name] else f"{name} (apart)", *cells, style="" if names[name] else "dim")
    table.add_row("all that counts", *(f"{run.cpu_ms:.3f}, {run.wakeups:.2f}" for run in runs), style="bold")
    return table


def _cost(cost: Cost) -> str:
    return f"{cost.cpu_ms_per_message:.3f}, {cost.wakeups_per_message:.2f} ({cost.memory_mb:.0f})"


def _stages(name: str, breakdown: Breakdown) -> Table:
    table = Table(title=f"Stages of the way, {name}: {breakdown.traces} traces", title_justify="left")
    for head in ("stage", "", "mean ms", "p99 ms", "share"):
        table.add_column(head, justify="right" if head.endswith(("ms", "share")) else "left")
    for stage in breakdown.stages:
        table.add_row(stage.name, stage.meaning, f"{stage.mean_ms:.1f}", f"{stage.p99_ms:.1f}", f"{stage.share:.0%}")
    return table


def _spans(name: str, breakdown: Breakdown, count: int = 24) -> Table:
    table = Table(title=f"Spans, {name}: {breakdown.spans_per_message:.1f} a message", title_justify="left")
    for head in ("service", "span", "a message", "mean ms"):
        table.add_column(head, justify="right" if head in ("a message", "mean ms") else "left")
    for cost in breakdown.spans[:count]:
        table.add_row(cost.service, cost.name, f"{cost.per_message:.2f}", f"{cost.mean_ms:.2f}")
    return table


def _profile(name: str, profile: Profile, count: int = 15) -> Table:
    table = Table(title=f"Profile of {name}: {profile.samples} samples", title_justify="left")
    for head in ("own", "function", "total", "function"):
        table.add_column(head)
    pairs = zip(profile.top(profile.own, count), profile.top(profile.total, count), strict=False)
    for (own, own_share), (total, total_share) in pairs:
        table.add_row(f"{own_share:.1%}", own, f"{total_share:.1%}", total)
    return table
