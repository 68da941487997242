"""Words: how texts are compared, and what people call things, in all languages at once."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import NamedTuple

from services.dialog.texts import LOCALES, language_file

LONGEST = 1000
"""Texts beyond this many characters are looked at no further: they are no command and no correction."""
MOST_WORDS = 48
"""Words of a text that are looked at for names of slots and numbers."""

_TOKEN = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*|[^\s]")
_FORMATTING = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe0e\ufe0f\ufeff\U0001f3fb-\U0001f3ff]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_EDGES = " \t\n.,!;:\"'«»()…"


class Token(NamedTuple):
    """A word or sign of a text: its comparable form, and where it ends in the text."""

    word: str
    start: int
    end: int


def fold(text: str) -> str:
    """The form in which words are compared: lower case, `ё` as `е`, no invisible characters."""
    return _FORMATTING.sub("", unicodedata.normalize("NFKC", text)).casefold().replace("ё", "е")


def clean(text: str) -> str:
    """A text as a person meant it: no control or invisible characters, single spaces, nothing around it."""
    words = _CONTROL.sub(" ", _FORMATTING.sub("", text)).split()
    if len(text) <= _PIECE:
        return unicodedata.normalize("NFC", " ".join(words))
    return " ".join(_composed(word) for word in words)


_PIECE = 1000


def _composed(word: str) -> str:
    """The NFC form, piece by piece: a run of accents takes time by the square of its length."""
    if word.isascii():
        return word
    pieces = (word[at : at + _PIECE] for at in range(0, len(word), _PIECE))
    return "".join(unicodedata.normalize("NFC", piece) for piece in pieces)


# One message is compared with many phrases.
@lru_cache(maxsize=32)
def bare(text: str) -> str:
    """The folded text without the punctuation around it, unless it is nothing else."""
    folded = " ".join(fold(text).split())
    return folded.strip(_EDGES) or folded


@lru_cache(maxsize=32)
def tokens(text: str) -> tuple[Token, ...]:
    """Words and signs of a `clean` text, in order."""
    folded = fold(text)
    same = len(folded) == len(text)  # then each word is where it was
    return tuple(
        Token(folded[found.start() : found.end()] if same else fold(found.group()), found.start(), found.end())
        for found in _TOKEN.finditer(text)
    )


@lru_cache(maxsize=32)
def _sentence(text: str) -> tuple[str, ...]:
    """The words of a text, and the signs that can say yes or no."""
    said = bare(text)
    return tuple(token.word for token in tokens(said) if token.word in "+-" or any(map(str.isalnum, token.word)))


@dataclass(frozen=True)
class Phrases:
    """A set of words and phrases; `адрес*` stands for every word that begins so."""

    exact: frozenset[tuple[str, ...]]
    lengths: Mapping[str, tuple[int, ...]]
    """Of the exact ones, in words, by the first word; the longest first."""
    prefixes: tuple[tuple[str, ...], ...]
    """Those with a `*`, the longest first."""
    stems: tuple[str, ...]
    """How the first words of `prefixes` begin."""

    @classmethod
    def of(cls, phrases: Iterable[str]) -> "Phrases":
        split = {tuple(fold(phrase).split()) for phrase in phrases if phrase.strip()}
        prefixes = {words for words in split if any(word.endswith("*") for word in words)}
        exact = frozenset(split - prefixes)
        lengths: dict[str, set[int]] = {}
        for words in exact:
            lengths.setdefault(words[0], set()).add(len(words))
        longest_first = {word: tuple(sorted(found, reverse=True)) for word, found in lengths.items()}
        stems = tuple({words[0].removesuffix("*") for words in prefixes})
        return cls(exact, longest_first, tuple(sorted(prefixes, key=len, reverse=True)), stems)

    def says(self, text: str) -> bool:
        """Whether the whole of a `bare` text is one of the phrases."""
        words = text.split()
        return self.match(words, 0) == len(words) > 0

    def match(self, words: Sequence[str], start: int) -> int:
        """How many words from `start` are a phrase, the longest; 0 when none."""
        if start >= len(words):
            return 0
        first = words[start]
        longest = 0
        for length in self.lengths.get(first, ()):
            said = tuple(words[start : start + length])
            if len(said) == length and said in self.exact:
                longest = length
                break
        if first.startswith(self.stems):
            for phrase in self.prefixes:
                if len(phrase) <= longest:
                    break
                if start + len(phrase) <= len(words) and all(map(_alike, phrase, words[start:])):
                    return len(phrase)
        return longest


def _alike(pattern: str, word: str) -> bool:
    return word.startswith(pattern[:-1]) if pattern.endswith("*") else word == pattern


@dataclass(frozen=True)
class Vocabulary:
    """What the languages' files list under `words` and `numbers`, all languages together."""

    phrases: Mapping[str, Phrases]
    numbers: Mapping[str, int]

    def __getitem__(self, key: str) -> Phrases:
        return self.phrases[key]

    def says(self, key: str, text: str) -> bool:
        """Whether the text is one of the phrases of a key, give or take punctuation and politeness."""
        wanted, polite = self.phrases[key], self.phrases["polite"]
        if wanted.says(bare(text)):
            return True
        words = _sentence(text)
        found = at = 0
        while at < len(words):
            size = wanted.match(words, at)
            found += size
            at += size or polite.match(words, at) or len(words) + 1
        return found > 0 and at == len(words)

    def number(self, words: Sequence[str]) -> int | None:
        """The number that words say: `двадцать пять` is 25. None when they say none, or more than one."""
        values = [self.numbers.get(word) for word in words]
        known = [value for value in values if value is not None]
        if not known or len(known) != len(words):
            return None
        if len(known) == 1:
            return known[0]
        tens, units = known if len(known) == 2 else (0, 0)
        return tens + units if 20 <= tens <= 90 and 1 <= units <= 9 else None


@cache
def vocabulary() -> Vocabulary:
    """The words of all languages; the files are read once."""
    files = [language_file(locale) for locale in LOCALES]
    keys = files[0]["words"].keys()
    return Vocabulary(
        {key: Phrases.of(phrase for file in files for phrase in file["words"][key]) for key in keys},
        {fold(word): int(value) for file in files for value, words in file["numbers"].items() for word in words},
    )
