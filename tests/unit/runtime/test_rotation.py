"""SEC-2: keys are replaced while processes run, and a rotation may be cut short anywhere."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.kernel.errors import ParleyError
from services.runtime import rotation
from services.runtime.crypto import CannotOpen, Sealer
from services.runtime.keys import LOOK_EVERY, OPERATOR, Keys, ServiceTokens, ensure_keys, make_token
from services.runtime.rotation import OLD_KEPT, replace_file, rotate_master, rotate_pair
from services.runtime.verifier import LEEWAY, LONGEST, LONGEST_UNNAMED, Verifier


class Time:
    """Of the wall and of the process, both in one."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Died(BaseException):
    """Passes every handler, as a power cut does."""


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return ensure_keys(tmp_path / "keys").folder


def nothing() -> None:
    """Every process reads the folder itself."""


def deaths(rotate: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Let `rotate` die before its first write, before its second, and so on, until it lives."""
    for survived in range(20):
        left = [survived]

        def replace(path: Path, content: bytes, left: list[int] = left) -> None:
            if left[0] == 0:
                raise Died
            left[0] -= 1
            replace_file(path, content)

        monkeypatch.setattr(rotation, "replace_file", replace)
        try:
            rotate()
            monkeypatch.setattr(rotation, "replace_file", replace_file)
            return
        except Died:
            yield survived


def test_a_running_process_signs_with_the_new_key_and_others_take_it_at_once(folder: Path, time: Time) -> None:
    signs, verifies = Keys(folder, clock=time), Keys(folder, clock=time)
    tokens, verifier = ServiceTokens("dialog", signs, time=time), Verifier(verifies, "limits", time=time)
    old = tokens.token("limits")
    assert verifier.verify(old).name == "dialog"
    rotate_pair(folder, "dialog", spread=nothing, time=time)
    signs.look(0.0)
    new = tokens.token("limits")
    assert new != old
    time.now += 0.1  # less than the time between two looks
    assert verifier.verify(new).name == "dialog"
    assert verifier.verify(old).name == "dialog"


def test_the_old_key_ends_when_its_last_tokens_have(folder: Path, time: Time) -> None:
    verifier = Verifier(Keys(folder, clock=time), "limits", time=time)
    key = Keys(folder).private("dialog")
    rotate_pair(folder, "dialog", spread=nothing, time=time)
    stolen = make_token(key, issuer="dialog", audience="limits", tenants=["*"], expires_at=time.now + 9999)
    time.now += LOOK_EVERY
    assert verifier.verify(stolen).name == "dialog"
    time.now += OLD_KEPT + LEEWAY
    with pytest.raises(ParleyError, match="expired"):
        verifier.verify(stolen)


def test_a_stolen_key_can_be_ended_at_once(folder: Path, time: Time) -> None:
    verifier = Verifier(Keys(folder, clock=time), "limits", time=time)
    stolen = ServiceTokens("dialog", Keys(folder), time=time).token("limits")
    assert verifier.verify(stolen).name == "dialog"
    rotate_pair(folder, "dialog", spread=nothing, keep=0.0, time=time)
    time.now += LOOK_EVERY
    with pytest.raises(ParleyError, match="not known"):
        verifier.verify(stolen)


def test_a_pair_works_wherever_its_rotation_is_cut_short(
    folder: Path, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    signs, verifies = Keys(folder, clock=time), Keys(folder, clock=time)
    tokens, verifier = ServiceTokens("dialog", signs, time=time), Verifier(verifies, "limits", time=time)
    times = 0
    for _ in deaths(lambda: rotate_pair(folder, "dialog", spread=nothing, time=time), monkeypatch):
        times += 1
        before = tokens.token("limits")
        time.now += LOOK_EVERY
        for token in (before, tokens.token("limits"), ServiceTokens("dialog", Keys(folder), time=time).token("limits")):
            assert verifier.verify(token).name == "dialog"
    assert times == 3
    time.now += OLD_KEPT + LEEWAY
    rotate_pair(folder, "dialog", spread=nothing, time=time)
    assert len(Keys(folder).public("dialog")) == 2, "what was left over is gone"


def test_sealed_values_open_through_a_rotation_that_is_cut_short_anywhere(
    folder: Path, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, other = Sealer(Keys(folder, clock=time)), Sealer(Keys(folder, clock=time))
    sealed = [running.seal(b"text", bound_to="here")]
    for _ in deaths(lambda: rotate_master(folder, spread=nothing), monkeypatch):
        time.now += LOOK_EVERY
        sealed.append(running.seal(b"text", bound_to="here"))
        assert all(Sealer(Keys(folder)).open(each, bound_to="here") == b"text" for each in sealed)
    time.now += LOOK_EVERY
    newest = running.seal(b"text", bound_to="here")
    assert sealed[0][1:5] != running.current_id == newest[1:5]
    assert other.open(newest, bound_to="here") == b"text"
    assert all(other.open(each, bound_to="here") == b"text" for each in sealed)


def test_another_process_opens_what_a_new_key_has_sealed_before_it_has_looked(folder: Path, time: Time) -> None:
    other = Sealer(Keys(folder, clock=time))
    rotate_master(folder, spread=nothing)
    time.now += 0.1
    assert other.open(Sealer(Keys(folder)).seal(b"text", bound_to="here"), bound_to="here") == b"text"


def test_a_process_whose_folder_is_gone_goes_on_with_what_it_has(folder: Path, time: Time) -> None:
    keys = Keys(folder, clock=time)
    sealer, tokens = Sealer(keys), ServiceTokens("dialog", keys, time=time)
    verifier = Verifier(keys, "dialog", time=time)
    sealed = sealer.seal(b"text", bound_to="here")
    token = tokens.token("dialog")
    verifier.verify(token)
    for path in folder.iterdir():
        path.unlink()
    (folder / "something").touch()
    time.now += LOOK_EVERY
    assert sealer.open(sealed, bound_to="here") == b"text"
    assert verifier.verify(token).name == tokens_name(tokens)
    with pytest.raises(CannotOpen):
        sealer.open(sealed, bound_to="there")


def tokens_name(tokens: ServiceTokens) -> str:
    return tokens._name


def named(folder: Path, seconds: float, time: Time, token_id: str = "st_1") -> str:
    return make_token(
        Keys(folder).private(OPERATOR),
        issuer="integration",
        audience="*",
        tenants=["acme"],
        expires_at=time.now + seconds,
        token_id=token_id,
    )


def test_a_revoked_token_is_refused_within_a_second(folder: Path, time: Time) -> None:
    verifier = Verifier(Keys(folder, clock=time), "limits", time=time)
    token, other = named(folder, 600, time), named(folder, 600, time, "st_2")
    assert verifier.verify(token).name == "integration"
    replace_file(folder / "revoked.json", b'{"st_1": 1800000600}')
    time.now += LOOK_EVERY
    with pytest.raises(ParleyError, match="revoked"):
        verifier.verify(token)
    assert verifier.verify(other).name == "integration"


def test_without_the_list_of_revoked_tokens_none_that_could_be_on_it_is_taken(folder: Path, time: Time) -> None:
    (folder / "revoked.json").unlink()
    verifier = Verifier(Keys(folder, clock=time), "limits", time=time)
    with pytest.raises(ParleyError, match="Nobody here can tell"):
        verifier.verify(named(folder, 600, time))
    assert verifier.verify(ServiceTokens("dialog", Keys(folder), time=time).token("limits")).name == "dialog"


@pytest.mark.parametrize(
    ("seconds", "token_id", "good"),
    [
        (LONGEST, "st_1", True),
        (LONGEST + 60, "st_1", False),
        (LONGEST_UNNAMED, "", True),
        (LONGEST_UNNAMED + 60, "", False),
    ],
)
def test_no_token_holds_for_more_than_ninety_days_and_none_without_an_id_for_more_than_one(
    folder: Path, time: Time, seconds: float, token_id: str, good: bool
) -> None:
    verifier = Verifier(Keys(folder, clock=time), "limits", time=time)
    token = named(folder, seconds, time, token_id)
    if good:
        assert verifier.verify(token).name == "integration"
    else:
        with pytest.raises(ParleyError, match="make a new one"):
            verifier.verify(token)
