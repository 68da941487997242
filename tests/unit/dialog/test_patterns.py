"""Patterns of forms: RE2 in time, and the alphabets of everybody."""

import re
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dialog.flows.patterns import MOST_WORK, compile_pattern, work


@pytest.mark.parametrize("pattern", ["a{0,16}" * 12 + "b", ".*.*b", "(a+)+b", "(a|a)*b", "(a*)*b", "a*a*a*a*b"])
def test_no_pattern_takes_longer_than_its_text_and_program(pattern: str) -> None:
    """Python's own engine takes minutes for the first of these."""
    compiled = compile_pattern(pattern)
    begun = process_time()
    assert compiled.search("a" * 4000) is None
    assert process_time() - begun < 0.5


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (r"(a)\1", "back references"),
        (r"(?=a)b", "looks nowhere"),
        (r"(?<!a)b", "looks nowhere"),
        (r"(?P<x>a)(?P=x)", "back references"),
        (r"a*+", "repetition"),
        (r"(", r"missing \)"),
        (r"[a", "missing ]"),
        ("a\\", "trailing"),
        (r"\bулица\b", r"has \\b"),
        (r"\Qa.b\E", r"has \\Q"),
        (r"((((\w{99}){99}){99}){99})", "repetition|too large"),
        (r"(\w{0,99}){9}", "too large"),
        ("x" * 201, "longer than 200"),
    ],
)
def test_what_re2_lacks_is_told(pattern: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        (r"^\+996\d{9}$", "+996700123456", "+99670012345"),
        (r"\w", "ул", "!… —"),
        (r"^\w{2,100}$", "Ёлкина", "два слова"),
        (r"^[\w\s.,-]+$", "ул. Киевская 120, кв-5", "ул; 5"),
        (r"^[^\W\d]+$", "Чүй", "Чүй5"),
        (r"^\W+$", "… 🙂 №", "… а"),
        (r"^[[]\w[]]$", "[я]", "[!]"),
        (r"^[]\w]+$", "a]я", "a[я"),
        (r"^[[:digit:]\w]+$", "5я", "5-"),
        (r"^a{,2}$", "aa", "aaa"),
        (r"^\u0451$", "ё", "е"),
        (r"(?i)^привет\Z", "ПРИВЕТ", "привет!"),
        (r"^(yes|no)$", "no", "not"),
    ],
)
def test_patterns_mean_what_they_meant(pattern: str, yes: str, no: str) -> None:
    assert compile_pattern(pattern).search(yes)
    assert not compile_pattern(pattern).search(no)


@given(st.text(st.characters(categories=["Lu", "Ll", "Lo", "Nd"], max_codepoint=0x1FFF), min_size=1))
def test_letters_and_digits_of_every_alphabet_are_words(text: str) -> None:
    assert compile_pattern(r"^\w+$").search(text)


@given(st.text(max_size=12), st.sampled_from([r"^[\w .-]+$", r"a{0,3}b", r"^\d+$", r"[a-f]|[^x]y", r"(?i)ab?c$"]))
def test_plain_patterns_find_what_they_always_found(text: str, pattern: str) -> None:
    """Of ASCII texts without line ends, as those of slots are."""
    text = "".join(sign for sign in text if " " <= sign <= "~")
    assert bool(compile_pattern(pattern).search(text)) == bool(re.search(pattern, text))


def test_the_work_of_a_pattern_is_its_program_times_the_text() -> None:
    assert work("", 4000) == 0
    assert work(r"^\+996\d{9}$", 16) < 1000
    assert work("[^x]{0,999}b", 4000) > MOST_WORK
