"""Reservation ids carry all that a Commit needs, and nobody else can make one."""

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kernel.errors import ParleyError
from services.limits.domain.reservations import (
    Body,
    Hold,
    Origin,
    ReservationIds,
    encode_body,
    key_bytes,
    request_digest,
    reservation_key,
)
from services.limits.domain.rules import MOST_RULES

IDS = ReservationIds(b"k" * 32)
HOLD = Hold("daily", "anna", 30, False, "2026-03-01", 1_772_409_600_000, 0, counter="q", units=2, parameters=(1,))
BODY = Body("acme", reservation_key("acme", "r1"), request_digest("x"), 2, (HOLD,))


def made(body: Body = BODY, ids: ReservationIds = IDS) -> str:
    return ids.make(encode_body(body), Origin.POSTGRES, 1000, 2000)


def test_an_id_tells_what_was_reserved() -> None:
    read = IDS.read(made(), "acme")
    assert (read.body, read.origin, read.granted_at, read.expires_at) == (BODY, Origin.POSTGRES, 1000, 2000)


@pytest.mark.parametrize(
    "forged", ["", "x", "é", "AAAA", made()[:-1], made() + "A", made(ids=ReservationIds(b"o" * 32))]
)
def test_an_id_from_elsewhere_is_refused(forged: str) -> None:
    with pytest.raises(ParleyError) as caught:
        IDS.read(forged, "acme")
    assert caught.value.fields[0].field == "reservation_id"


def test_an_id_of_another_tenant_is_refused() -> None:
    with pytest.raises(ParleyError):
        IDS.read(made(), "other")


@given(st.integers(0, len(base64.urlsafe_b64decode(made() + "==")) - 1), st.integers(1, 255))
def test_an_id_changed_anywhere_is_refused(at: int, change: int) -> None:
    raw = bytearray(base64.urlsafe_b64decode(made() + "=="))
    raw[at] ^= change
    with pytest.raises(ParleyError):
        IDS.read(base64.urlsafe_b64encode(raw).rstrip(b"=").decode(), "acme")


def test_the_longest_id_fits_its_field() -> None:
    long: dict[str, Any] = {"counter": "q", "units": 10**12, "unit": "u" * 16, "parameters": (10**9, 86_400_000)}
    hold = Hold("r" * 63, "v" * 64, 10**15, True, "2026-03-01", 2**45, 86_400_000, True, 10_000, **long)
    body = Body("t" * 40, reservation_key("t", "r"), request_digest("x"), 10**6, (hold,) * MOST_RULES)
    assert len(made(body)) <= 4096


def test_keys_have_sixteen_bytes_and_no_separator() -> None:
    key = reservation_key("acme", "r1")
    assert (len(key), len(key_bytes(key)), ":" in key) == (22, 16, False)
    assert reservation_key("a", "b") != reservation_key("ab", "")


def test_an_id_of_the_version_before_is_still_read() -> None:
    """It knew daily quotas and windows, and held the same units under every rule."""
    quota = ["daily", "anna", 30, False, "2026-03-01", 1_772_409_600_000, 0, False, 0]
    windows = [["rate", "tg", limit, shadow, "", 0, 60_000, True, 250] for limit, shadow in ((300, False), (5, True))]
    old = msgspec.msgpack.encode(["acme", BODY.key, BODY.digest, 2, [quota, *windows]])
    read = IDS.read(IDS.make(old, Origin.REDIS, 1000, 2000), "acme").body
    assert [(hold.counter, hold.units) for hold in read.holds] == [("q", 2), ("e", 2), ("b", 2)]
    assert [hold.counter_name for hold in read.holds] == ["2026-03-01", "e60000", "b60000"]
    assert [hold.is_daily_quota for hold in read.holds] == [True, False, False]
