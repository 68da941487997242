"""Which ports the stack takes."""

import socket
from collections.abc import Iterator

import pytest

from deploy.local.ports import Port, PortTaken, choose


@pytest.fixture
def busy() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.fixture
def free() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def test_a_given_port_is_taken_as_it_is(free: int, busy: int) -> None:
    assert choose({"PARLEY_EDGE_PORT": str(free)}, {"edge": Port(busy)}) == {"edge": free}


def test_zero_means_any_free_port_and_none_twice() -> None:
    given = {"PARLEY_EDGE_PORT": "0", "PARLEY_DIALOG_PORT": "0"}
    chosen = choose(given, {"edge": Port(1), "dialog": Port(2)})
    assert len({*chosen.values()}) == 2
    assert 0 not in chosen.values()


def test_a_busy_default_port_is_an_error_that_names_the_variable(busy: int) -> None:
    with pytest.raises(PortTaken, match="PARLEY_EDGE_PORT"):
        choose({}, {"edge": Port(busy)})


def test_a_busy_port_that_nobody_asked_for_may_move(busy: int) -> None:
    chosen = choose({}, {"simulator": Port(busy, may_move=True)})
    assert chosen["simulator"] not in (busy, 0)


def test_a_busy_port_that_was_given_never_moves(busy: int) -> None:
    with pytest.raises(PortTaken, match="PARLEY_SIMULATOR_PORT"):
        choose({"PARLEY_SIMULATOR_PORT": str(busy)}, {"simulator": Port(1, may_move=True)})


@pytest.mark.parametrize("given", ["http", "-1", "65536", "80a"])
def test_what_is_no_port_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="PARLEY_EDGE_PORT"):
        choose({"PARLEY_EDGE_PORT": given}, {"edge": Port(1)})
