"""Lengths of time, read and told."""

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from parley_cli.durations import format_seconds, parse


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5", 1.5), ("90s", 90), ("5m", 300), ("24h", 86_400), ("30d", 2_592_000), ("1h 30m", 5_400)],
)
def test_lengths_are_read(text: str, seconds: float) -> None:
    assert parse(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1", "5 parsecs", "h", "1e99", "nan", "5m later"])
def test_what_is_no_length_is_refused_with_examples(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="length of time"):
        parse(text)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (0.25, "250 ms"), (45, "45 s"), (300, "5 min"), (5_400, "1 h 30 min"), (86_400, "1 day")],
)
def test_lengths_are_told(seconds: float, words: str) -> None:
    assert format_seconds(seconds) == words


@given(st.integers(1, 10_000_000))
def test_what_is_told_is_never_longer_than_it_was(seconds: int) -> None:
    told = format_seconds(seconds).replace("days", "d").replace("day", "d").replace("min", "m")
    assert seconds - 3_600 <= parse(told) <= seconds
