"""Which ports the stack takes."""

import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

LOOPBACK = "127.0.0.1"


class PortTaken(RuntimeError):
    """A port that the stack needs is in use. The message names the variable that moves it."""


@dataclass(frozen=True)
class Port:
    """A default port. If it is in use and `may_move`, and nobody asked for it, any free one is taken instead."""

    default: int
    may_move: bool = False


PORTS = {
    "edge": Port(8080),
    "console": Port(8081),
    "context": Port(50051),
    "dialog": Port(50052),
    "limits": Port(50053),
    "delivery": Port(50054),
    "telemetry": Port(50055, may_move=True),
    "otlp": Port(4317, may_move=True),
    "simulator": Port(8090, may_move=True),
    "metrics": Port(9464, may_move=True),
}


def variable(name: str) -> str:
    """Returns the environment variable of a port."""
    return f"PARLEY_{name.upper()}_PORT"


def choose(environment: Mapping[str, str], names: Mapping[str, Port] | None = None) -> dict[str, int]:
    """Chooses a port for each name: the one in the environment (0: any free one), or the default.

    Raises `PortTaken` when one that cannot move is in use, and `ValueError` when a variable is no port.
    """
    chosen: dict[str, int] = {}
    with ExitStack() as held:  # all at once, so that no two get the same free port
        for name, port in (PORTS if names is None else names).items():
            given = environment.get(variable(name), "").strip()
            wanted = parse(variable(name), given) if given else port.default
            taken = hold(held, wanted)
            if taken is None and port.may_move and not given:
                taken = hold(held, 0)
            if taken is None:
                raise PortTaken(
                    f"port {wanted} of {name} is in use: stop what listens there, or choose another with "
                    f"{variable(name)}=<port> (0 for any free one)"
                )
            chosen[name] = taken
    return chosen


def choose_within(seconds: float, environment: Mapping[str, str], names: Mapping[str, Port]) -> dict[str, int]:
    """Chooses as `choose` does, but waits for ports that a stack which was just killed still holds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return choose(environment, names)
        except PortTaken:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def parse(name: str, text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise ValueError(f"{name}={text!r} is not a port: give a number from 0 to 65535")
    return int(text)


def is_free(port: int) -> bool:
    """Tells whether a port could be taken now. Raises `PermissionError` for one that only root may take."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except PermissionError:
            raise
        except OSError:
            return False
    return True


def hold(held: ExitStack, port: int) -> int | None:
    """Binds the port until `held` is closed; returns None if somebody else has it."""
    probe = held.enter_context(socket.socket())
    # As servers do: a port whose old connections linger is free. One that somebody listens on is not.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((LOOPBACK, port))
    except OSError:
        return None
    return int(probe.getsockname()[1])
