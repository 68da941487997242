"""Page tokens lead to the next page of the same list, and to nothing else."""

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kernel.errors import ParleyError
from services.runtime import pages
from services.runtime.keys import LOOK_EVERY, Keys, ensure_keys
from services.runtime.rotation import OLD_KEPT, rotate_pair


@pytest.fixture(scope="module")
def keys() -> Iterator[Keys]:
    with TemporaryDirectory() as folder:
        yield ensure_keys(Path(folder))


@pytest.fixture(autouse=True)
def signer(keys: Keys) -> pages.Signer:
    signer = pages.Signer(keys, "dialog")
    pages.use(signer)
    return signer


def refused(token: str, method: str = "ListOrders", filters: object = ("acme",)) -> str:
    with pytest.raises(ParleyError) as caught:
        pages.decode(token, method, filters)
    assert caught.value.reason == "INVALID_PAGE_TOKEN"
    assert caught.value.fields[0].field == "page_token"
    return caught.value.message


@given(position=st.lists(st.one_of(st.text(), st.integers(), st.none()), max_size=4))
def test_a_token_gives_its_position_back(keys: Keys, position: list[str | int | None]) -> None:
    pages.use(pages.Signer(keys, "dialog"))
    token = pages.encode("ListOrders", ("acme", 3), position)
    assert pages.decode(token, "ListOrders", ("acme", 3)) == position


def test_no_token_is_the_first_page() -> None:
    assert pages.decode("", "ListOrders", ()) is None


@pytest.mark.parametrize("token", ["x", "%%%", "bnVsbA", "W10", "Wzdd", "e30", "a" * 511, "ы", "é" * 20])
def test_what_is_no_token_is_refused(token: str) -> None:
    refused(token)


@pytest.mark.parametrize(("method", "filters"), [("ListBots", ("acme",)), ("ListOrders", ("other",))])
def test_a_token_of_another_list_or_tenant_is_refused(method: str, filters: tuple[str, ...]) -> None:
    refused(pages.encode("ListOrders", ("acme",), ["x"]), method, filters)


@given(at=st.integers(0, 10_000), bits=st.integers(1, 255))
def test_a_token_that_was_changed_is_refused(keys: Keys, at: int, bits: int) -> None:
    pages.use(pages.Signer(keys, "dialog"))
    token = pages.encode("ListOrders", ("acme",), ["018f0000-0000-7000-8000-000000000000"])
    raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    raw[at % len(raw)] ^= bits
    refused(base64.urlsafe_b64encode(raw).decode().rstrip("="))


def test_a_token_that_was_forged_is_refused(keys: Keys) -> None:
    """As it was made before: whoever knew the method and filters could make one, and it led to INTERNAL."""
    digest = hashlib.sha256(b"ListOrders\n('acme',)").hexdigest()[:16]
    refused(base64.urlsafe_b64encode(json.dumps([digest, "no uuid"]).encode()).decode().rstrip("="))
    pages.use(pages.Signer(keys, "limits"))
    token = pages.encode("ListOrders", ("acme",), ["x"])
    pages.use(pages.Signer(keys, "dialog"))
    refused(token)


def test_a_token_is_good_for_a_day_and_for_every_replica(keys: Keys) -> None:
    pages.use(pages.Signer(keys, "dialog", time=lambda: 1_000.0))
    token = pages.encode("ListOrders", ("acme",), ["x"])
    pages.use(pages.Signer(Keys(keys.folder), "dialog", time=lambda: 1_000.0 + pages.KEPT))
    assert pages.decode(token, "ListOrders", ("acme",)) == ["x"]
    pages.use(pages.Signer(keys, "dialog", time=lambda: 1_001.0 + pages.KEPT))
    assert "has expired" in refused(token)


def test_a_key_that_was_rotated_is_followed_while_running_and_the_old_one_holds_for_its_time(tmp_path: Path) -> None:
    """A process that was started before the rotation and one started after it take each other's tokens."""
    ensure_keys(tmp_path)
    steady, now = [0.0], [time.time()]
    running = pages.Signer(Keys(tmp_path, clock=lambda: steady[0]), "dialog", time=lambda: now[0])
    pages.use(running)
    before = pages.encode("ListOrders", (), ["before"])
    rotate_pair(tmp_path, "dialog", spread=lambda: None)
    started = pages.Signer(Keys(tmp_path), "dialog", time=lambda: now[0])
    pages.use(started)
    assert pages.decode(before, "ListOrders", ()) == ["before"]
    after = pages.encode("ListOrders", (), ["after"])
    pages.use(running)
    steady[0] += LOOK_EVERY / 2  # it has not looked again by itself
    assert pages.decode(after, "ListOrders", ()) == ["after"]
    steady[0] += LOOK_EVERY
    again = pages.encode("ListOrders", (), ["again"])
    pages.use(started)
    assert pages.decode(again, "ListOrders", ()) == ["again"]
    now[0] += OLD_KEPT + 60
    refused(before, filters=())
    assert pages.decode(again, "ListOrders", ()) == ["again"]
