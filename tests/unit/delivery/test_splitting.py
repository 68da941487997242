"""Long texts are cut where people would cut them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.delivery.domain.splitting import split


def parts_of(text: str, limit: int) -> list[str]:
    return [text[start:end] for start, end in split(text, limit)]


def units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("short", 10, ["short"]),
        ("exactly 10", 10, ["exactly 10"]),
        ("first paragraph\n\nsecond one", 20, ["first paragraph", "second one"]),
        ("a line of text\nanother line", 20, ["a line of text", "another line"]),
        ("One sentence. Another one. Third.", 28, ["One sentence. Another one.", "Third."]),
        ("words and words and words", 12, ["words and", "words and", "words"]),
        ("Привет! Как дела? Хорошо.", 18, ["Привет! Как дела?", "Хорошо."]),
        ("abcdefghij", 4, ["abcd", "efgh", "ij"]),
        ("   ", 10, ["   "]),
        ("  padded  ", 4, ["padd", "ed"]),
    ],
)
def test_a_text_is_cut_at_the_best_boundary(text: str, limit: int, expected: list[str]) -> None:
    assert parts_of(text, limit) == expected


@pytest.mark.parametrize(
    "cluster",
    ["👨‍👩‍👧‍👦", "🇰🇬", "👍🏽", "e\u0301", "🏴\U000e0067\U000e0062\U000e007f", "☎️"],
)
def test_what_people_see_as_one_character_is_never_torn(cluster: str) -> None:
    text = cluster * 40
    for part in parts_of(text, 32):
        assert len(part) % len(cluster) == 0, part
        assert part == cluster * (len(part) // len(cluster))


def test_astral_characters_count_twice_as_messengers_count_them() -> None:
    assert [units(part) for part in parts_of("😀" * 10, 8)] == [8, 8, 4]


def test_a_cluster_longer_than_a_part_is_cut_all_the_same() -> None:
    parts = parts_of("a" + "\u0301" * 50, 10)
    assert "".join(parts) == "a" + "\u0301" * 50
    assert all(units(part) <= 10 for part in parts)


@given(st.text(alphabet=st.sampled_from("ab .!?\n\r\t👍🏽\u200d🇰🇬e\u0301я"), min_size=1), st.integers(4, 60))
def test_parts_fit_and_lose_nothing_but_white_space(text: str, limit: int) -> None:
    cuts = split(text, limit)
    assert cuts
    assert [cut for pair in cuts for cut in pair] == sorted(cut for pair in cuts for cut in pair)
    if text.strip():
        parts = [text[start:end] for start, end in cuts]
        assert all(part and units(part) <= limit for part in parts)
        assert "".join("".join(parts).split()) == "".join(text.split())


@given(st.text(min_size=1, max_size=300), st.integers(4, 60))
def test_any_text_can_be_split(text: str, limit: int) -> None:
    assert all(units(text[start:end]) <= limit for start, end in split(text, limit) if text.strip())


def test_a_long_text_is_split_in_linear_time() -> None:
    assert len(split("слово " * 10_000, 4096)) == 15
