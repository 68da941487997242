"""Which `PARLEY_...` variables there are, and what is wrong with those that are set."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches

from deploy.local.environment import variables
from deploy.local.ports import PORTS, is_free, parse, variable
from deploy.local.roles import OWNERS
from deploy.local.stores import database_variable

SERVICES = ("context", "delivery", "dialog", "edge", "limits", "simulator", "telemetry")
OURS = {
    "PARLEY_CHANNEL_TOKEN",
    "PARLEY_HOME",
    "PARLEY_PUBLIC_URL",
    "PARLEY_RESTART_LONGEST_SECONDS",
    "PARLEY_TENANT",
    "PARLEY_TOKEN",
    # Of tests and measurements.
    "PARLEY_CHAOS_SINGLY",
    "PARLEY_CRASH_FOLDER",
}
"""Variables that are not in the settings of any service."""


@dataclass(frozen=True)
class Problem:
    """A problem of the environment, and what to do about it."""

    name: str
    level: str
    message: str
    todo: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def known() -> set[str]:
    """Returns every variable that something reads."""
    ours = OURS | {variable(name) for name in PORTS} | {database_variable(service) for service in OWNERS}
    return ours.union(*map(variables, SERVICES))


def examine(environment: Mapping[str, str], *, running: bool) -> Iterator[Problem]:
    """Finds variables that nothing reads, and ports that cannot be taken. A `running` stack has its own ports."""
    names = known()
    for name in sorted(environment):
        if name.startswith("PARLEY_") and name not in names:
            meant = get_close_matches(name, names, 1, 0.8)
            todo = f"Did you mean {meant[0]}?" if meant else "docs/reference/settings.md has those that there are."
            yield Problem("settings", "warning", f"{name} is set, and nothing reads it", todo)
    for service, port in PORTS.items():
        given = environment.get(variable(service), "").strip()
        try:
            number = parse(variable(service), given) if given else port.default
        except ValueError as error:
            yield Problem("ports", "error", str(error), f"Give {variable(service)} a number from 0 to 65535.")
            continue
        if running or (port.may_move and not given) or number == 0:
            continue
        if why := unusable(number):
            yield Problem(
                "ports", "error", f"{number} for {service} {why}", f"Choose another with {variable(service)}."
            )


def unusable(port: int) -> str:
    """Returns why a port cannot be taken, or nothing."""
    try:
        return "" if is_free(port) else "is in use"
    except PermissionError:
        return "is for root only"
