"""Sealed bytes open where they belong, with the keys that are known."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.crypto import CannotOpen, Sealer
from services.runtime.keys import Keys, ensure_keys


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_keys(tmp_path_factory.mktemp("keys")).folder


@given(plaintext=st.binary(max_size=2000), place=st.text(max_size=50))
def test_what_was_sealed_opens_at_its_place(folder: Path, plaintext: bytes, place: str) -> None:
    sealer = Sealer(Keys(folder))
    assert sealer.open(sealer.seal(plaintext, bound_to=place), bound_to=place) == plaintext


def test_sealing_twice_gives_different_bytes(folder: Path) -> None:
    sealer = Sealer(Keys(folder))
    assert sealer.seal(b"token", bound_to="a") != sealer.seal(b"token", bound_to="a")


def test_it_opens_nowhere_else(folder: Path) -> None:
    sealer = Sealer(Keys(folder))
    with pytest.raises(CannotOpen):
        sealer.open(sealer.seal(b"token", bound_to="acme/channel/1"), bound_to="other/channel/1")


def test_no_changed_byte_goes_unnoticed(folder: Path) -> None:
    sealer = Sealer(Keys(folder))
    sealed = sealer.seal(b"token", bound_to="a")
    for index in range(len(sealed)):
        changed = sealed[:index] + bytes([sealed[index] ^ 1]) + sealed[index + 1 :]
        with pytest.raises(CannotOpen):
            sealer.open(changed, bound_to="a")
    for end in range(len(sealed)):
        with pytest.raises(CannotOpen):
            sealer.open(sealed[:end], bound_to="a")


def test_an_older_key_still_opens_but_seals_nothing_new(tmp_path: Path) -> None:
    before = Sealer(ensure_keys(tmp_path))
    old = before.seal(b"token", bound_to="a")
    (tmp_path / "master.key").rename(tmp_path / "master.2026.key")
    after = Sealer(ensure_keys(tmp_path))
    new = after.seal(b"token", bound_to="a")
    assert after.open(old, bound_to="a") == after.open(new, bound_to="a") == b"token"
    assert old[1:5] != after.current_id == new[1:5]
    with pytest.raises(CannotOpen):
        before.open(new, bound_to="a")
