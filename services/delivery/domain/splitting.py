"""Cuts a long text into parts that a provider takes.

Lengths are UTF-16 code units, which is what messengers count, and never less than characters.
"""

import re
import unicodedata

Cut = tuple[int, int]
"""First character, and the one after the last."""

_PARAGRAPH = re.compile(r"\n\s*\n")
_LINE = re.compile(r"\n")
_SENTENCE = re.compile(r"(?<![.!?…。！？])[.!?…。！？]+[\"'»”)\]]*\s+")  # a run of dots is looked at once
_SPACE = re.compile(r"\s+")
_BOUNDARIES = ((_PARAGRAPH, 0.5), (_LINE, 0.6), (_SENTENCE, 0.6), (_SPACE, 0.3))
"""Where to cut, best first, and how full the part must be at least for it."""

_JOINER = "\u200d"
_MARKS = {"Mn", "Me", "Mc"}


def split(text: str, limit: int) -> list[Cut]:
    """Slices of `text` of at most `limit` UTF-16 units each, in order, at least one.

    Cuts at the end of a paragraph, a line, a sentence or a word, whichever comes first in this list and leaves
    the part reasonably full; a longer word is cut between two visible characters. White space at a cut is
    dropped.
    """
    start, end = _trim(text, 0, len(text))
    if start == end:
        return [(0, len(text))]
    cuts: list[Cut] = []
    while start < end:
        window = _window(text, start, end, limit)
        stop = end if window == end else _boundary(text, start, window)
        first, last = _trim(text, start, stop)
        if first < last:
            cuts.append((first, last))
        start = _trim(text, stop, end)[0]
    return cuts


def _window(text: str, start: int, end: int, limit: int) -> int:
    """The furthest end of a part that begins at `start`."""
    if end - start <= limit // 2:
        return end
    units = 0
    for index in range(start, end):
        units += 2 if text[index] > "\uffff" else 1
        if units > limit:
            return max(index, start + 1)
    return end


def _boundary(text: str, start: int, window: int) -> int:
    for pattern, fullness in _BOUNDARIES:
        least = start + int((window - start) * fullness)
        # One character more: a boundary that is just where the window ends leaves the part as it is.
        ends = [min(match.end(), window) for match in pattern.finditer(text, least, window + 1)]
        for end in reversed(ends):
            if end > start and not _inside_cluster(text, start, end):
                return end
    for index in range(window, start + (window - start) // 2, -1):
        if not _inside_cluster(text, start, index):
            return index
    return window


def _inside_cluster(text: str, start: int, index: int) -> bool:
    """Whether a cut before `text[index]` of a part that begins at `start` would tear apart what people see as one."""
    before, after = text[index - 1], text[index]
    if before == _JOINER or after == _JOINER or unicodedata.category(after) in _MARKS:
        return True
    code = ord(after)
    if 0x1F3FB <= code <= 0x1F3FF or 0xE0020 <= code <= 0xE007F or (before == "\r" and after == "\n"):
        return True
    if _is_flag_letter(before) and _is_flag_letter(after):
        letters = 0
        while letters < index - start and _is_flag_letter(text[index - 1 - letters]):
            letters += 1
        return letters % 2 == 1
    return False


def _is_flag_letter(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _trim(text: str, start: int, end: int) -> Cut:
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end
