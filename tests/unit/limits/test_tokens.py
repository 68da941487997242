"""Reservation ids carry all that a Commit needs, and nobody else can make one."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kernel.errors import ParleyError
from services.limits.domain import MOST_RULES
from services.limits.tokens import Body, Line, Origin, Tokens, encode_body, key_bytes, request_digest, reservation_key

TOKENS = Tokens(b"k" * 32)
LINE = Line("daily", "anna", 30, False, "2026-03-01", 1_772_409_600_000, 0)
BODY = Body("acme", reservation_key("acme", "r1"), request_digest("x"), 2, (LINE,))


def made(body: Body = BODY, tokens: Tokens = TOKENS) -> str:
    return tokens.make(encode_body(body), Origin.POSTGRES, 1000, 2000)


def test_an_id_tells_what_was_reserved() -> None:
    read = TOKENS.read(made(), "acme")
    assert (read.body, read.origin, read.granted_at, read.expires_at) == (BODY, Origin.POSTGRES, 1000, 2000)


@pytest.mark.parametrize("forged", ["", "x", "é", "AAAA", made()[:-1], made() + "A", made(tokens=Tokens(b"o" * 32))])
def test_an_id_from_elsewhere_is_refused(forged: str) -> None:
    with pytest.raises(ParleyError) as caught:
        TOKENS.read(forged, "acme")
    assert caught.value.fields[0].field == "reservation_id"


def test_an_id_of_another_tenant_is_refused() -> None:
    with pytest.raises(ParleyError):
        TOKENS.read(made(), "other")


@given(st.integers(0, len(base64.urlsafe_b64decode(made() + "==")) - 1), st.integers(1, 255))
def test_an_id_changed_anywhere_is_refused(at: int, change: int) -> None:
    raw = bytearray(base64.urlsafe_b64decode(made() + "=="))
    raw[at] ^= change
    with pytest.raises(ParleyError):
        TOKENS.read(base64.urlsafe_b64encode(raw).rstrip(b"=").decode(), "acme")


def test_the_longest_id_fits_its_field() -> None:
    line = Line("r" * 63, "v" * 64, 10**9, True, "2026-03-01", 2**45, 0)
    body = Body("t" * 40, reservation_key("t", "r"), request_digest("x"), 10**6, (line,) * MOST_RULES)
    assert len(made(body)) <= 2048


def test_keys_have_sixteen_bytes_and_no_separator() -> None:
    key = reservation_key("acme", "r1")
    assert (len(key), len(key_bytes(key)), ":" in key) == (22, 16, False)
    assert reservation_key("a", "b") != reservation_key("ab", "")
