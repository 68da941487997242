"""Page tokens lead to the next page of the same list, and to nothing else."""

import base64
import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from services.kernel.errors import ParleyError
from services.runtime import pages

KEY = Ed25519PrivateKey.generate()


@pytest.fixture(autouse=True)
def signer() -> None:
    pages.use(pages.Signer(KEY))


def refused(token: str, method: str = "ListOrders", filters: object = ("acme",)) -> str:
    with pytest.raises(ParleyError) as caught:
        pages.decode(token, method, filters)
    assert caught.value.reason == "INVALID_PAGE_TOKEN"
    assert caught.value.fields[0].field == "page_token"
    return caught.value.message


@given(st.lists(st.one_of(st.text(), st.integers(), st.none()), max_size=4))
def test_a_token_gives_its_position_back(position: list[str | int | None]) -> None:
    pages.use(pages.Signer(KEY))
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


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_token_that_was_changed_is_refused(at: int, bits: int) -> None:
    pages.use(pages.Signer(KEY))
    token = pages.encode("ListOrders", ("acme",), ["018f0000-0000-7000-8000-000000000000"])
    raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    raw[at % len(raw)] ^= bits
    refused(base64.urlsafe_b64encode(raw).decode().rstrip("="))


def test_a_token_that_was_forged_is_refused() -> None:
    """As it was made before: whoever knew the method and filters could make one, and it led to INTERNAL."""
    digest = hashlib.sha256(b"ListOrders\n('acme',)").hexdigest()[:16]
    refused(base64.urlsafe_b64encode(json.dumps([digest, "no uuid"]).encode()).decode().rstrip("="))
    pages.use(pages.Signer(Ed25519PrivateKey.generate()))
    token = pages.encode("ListOrders", ("acme",), ["x"])
    pages.use(pages.Signer(KEY))
    refused(token)


def test_a_token_is_good_for_a_day_and_for_every_replica() -> None:
    pages.use(pages.Signer(KEY, time=lambda: 1_000.0))
    token = pages.encode("ListOrders", ("acme",), ["x"])
    pages.use(pages.Signer(KEY, time=lambda: 1_000.0 + pages.KEPT))
    assert pages.decode(token, "ListOrders", ("acme",)) == ["x"]
    pages.use(pages.Signer(KEY, time=lambda: 1_001.0 + pages.KEPT))
    assert "has expired" in refused(token)
