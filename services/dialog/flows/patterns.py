"""Patterns that a form may bring along: RE2, whose time grows with the text and the pattern, and never faster.

RE2's own `\\w` knows Latin letters only; here it stands for the letters and digits of every alphabet, and `\\W` for the
rest.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import re2

LONGEST = 200
"""Characters of a pattern."""
MOST_WORK = 10_000_000
"""Instructions of a form's patterns times characters of what they are tried on: some 10 ms."""
_MEMORY = 1 << 18
"""Bytes that one compiled pattern may take; what needs more is too large."""

_NO_WORD = (
    (0x80, 0xA9),
    (0xAB, 0xB4),
    (0xB6, 0xB9),
    (0xBB, 0xBF),
    (0xD7, 0xD7),
    (0xF7, 0xF7),
    (0x37E, 0x37E),
    (0x387, 0x387),
    (0x589, 0x589),
    (0x60C, 0x60C),
    (0x61B, 0x61F),
    (0x66A, 0x66D),
    (0x6D4, 0x6D4),
    (0x964, 0x965),
    (0x2000, 0x2BFF),
    (0x2E00, 0x2E7F),
    (0x3000, 0x3004),
    (0x3008, 0x3020),
    (0xE000, 0xF8FF),
    (0xFE00, 0xFE6F),
    (0xFEFF, 0xFF0F),
    (0xFF1A, 0xFF20),
    (0xFF3B, 0xFF40),
    (0xFF5B, 0xFF65),
    (0xFFE0, 0xFFFF),
    (0x1F000, 0x1FAFF),
    (0xE0000, 0x10FFFF),
)
"""Blocks beyond ASCII that hold punctuation, signs and pictures: a short list, since exact classes of Unicode make a
program of 1,300 instructions for each `\\w`."""


def _words() -> str:
    """What `_NO_WORD` leaves, as the content of a class."""
    first, ranges = 0x80, []
    for begin, end in _NO_WORD:
        if first < begin:
            ranges.append(f"\\x{{{first:x}}}-\\x{{{begin - 1:x}}}")
        first = end + 1
    return "0-9A-Z_a-z" + "".join(ranges)


_WORD = _words()
_REST = r"\x00-/:-@\[-\^`{-\x7f" + "".join(f"\\x{{{begin:x}}}-\\x{{{end:x}}}" for begin, end in _NO_WORD)
_ESCAPED = {"w": _WORD, "W": _REST}
_ESCAPE = r"\\(?:u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)"
_OUTSIDE = re.compile(_ESCAPE + r"|\[\^?\]?|\{,(?=\d+\})|.", re.DOTALL)
_INSIDE = re.compile(_ESCAPE + r"|\[:\^?\w+:\]|.", re.DOTALL)
"""The signs of a pattern outside and inside of brackets; a bracket that closes first stands for itself."""
_REFUSED = {
    "b": r"has \b, which knows Latin letters only; name the characters that may stand around it",
    "B": r"has \B, which knows Latin letters only; name the characters that may stand around it",
    "C": r"has \C, which matches half a letter",
    "Q": r"has \Q; put a backslash before each sign instead",
}


@lru_cache(maxsize=128)
def compile_pattern(pattern: str) -> Any:
    """Compile to an RE2 pattern. Raises ValueError with what is wrong: RE2 has no back references and looks around
    nothing, and what it would make of the pattern may be too large."""
    if len(pattern) > LONGEST:
        raise ValueError(f"is longer than {LONGEST} characters")
    options = re2.Options()
    options.max_mem = _MEMORY
    options.log_errors = False
    options.never_capture = True
    try:
        return re2.compile("".join(_translated(pattern)), options)
    except re2.error as error:
        said = error.args[0].decode(errors="replace") if error.args else ""
        if "too large" in said:
            raise ValueError("is too large; repeat less") from error
        raise ValueError(f"is no pattern of RE2, which has no back references and looks nowhere: {said}") from error


def work(pattern: str, longest: int) -> int:
    """What trying a pattern on a value of so many characters costs at most, in instructions."""
    return int(compile_pattern(pattern).programsize) * longest if pattern else 0


def _translated(pattern: str) -> Iterator[str]:
    """The parts of a pattern as RE2 writes them."""
    inside, at = False, 0
    while at < len(pattern):
        found = (_INSIDE if inside else _OUTSIDE).match(pattern, at)
        assert found is not None, "anything is a sign"
        sign, at = found.group(), found.end()
        if sign[0] == "\\" and len(sign) > 1:
            yield _escape(sign[1:], inside=inside)
            continue
        if not inside and sign[0] == "[":
            inside = True
        elif inside and sign == "]":
            inside = False
        yield "{0," if sign == "{," else sign


def _escape(name: str, *, inside: bool) -> str:
    if name in _REFUSED and not (inside and name == "b"):
        raise ValueError(_REFUSED[name])
    if name in _ESCAPED:
        return _ESCAPED[name] if inside else f"[{_ESCAPED[name]}]"
    if name == "Z":
        return r"\z"
    if len(name) > 1:
        return f"\\x{{{name[1:]}}}"
    return f"\\{name}"
