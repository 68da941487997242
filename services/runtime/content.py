"""What bots answer, `parley.common.v1.OutboundContent`: how it is stored, and what plain text can show of it.

Every channel shows plain text, so `as_text` is what anything richer comes down to in the end.
"""

import re
from collections.abc import Iterator

from google.protobuf.message import DecodeError

from parley.common.v1.content_pb2 import TEXT_FORMAT_MARKDOWN, Attachment, OutboundContent

MOST_TEXT = 65_536
"""Characters of a text, as the contract bounds it."""
_MARKS = re.compile(
    r"\\(?P<shown>[\\*~`\[\]])"
    r"|\*\*|~~|`{1,3}"
    r"|\[(?P<words>[^\[\]\n]{1,500})\]\((?P<address>https?://[^\s()]{1,1000})\)"
)


def of_text(text: str) -> OutboundContent:
    """A plain text and nothing else."""
    return OutboundContent(text=text)


def is_text(content: OutboundContent) -> bool:
    """Whether it is a plain text and nothing else."""
    return not (content.format or content.buttons or content.attachments or content.HasField("list"))


def pack(content: OutboundContent) -> str | bytes:
    """As it is stored. A plain text is stored as the text itself, as versions before typed replies did and can read."""
    return content.text if is_text(content) else content.SerializeToString()


def unpack(stored: object) -> OutboundContent:
    """What `pack` has made of it. Raises ValueError when it is damaged."""
    if isinstance(stored, str):
        return of_text(stored)
    if not isinstance(stored, bytes):
        raise ValueError(f"{type(stored).__name__} is no stored content")
    try:
        return OutboundContent.FromString(stored)
    except DecodeError as error:
        raise ValueError("a stored content is damaged") from error


def as_text(content: OutboundContent) -> str:
    """All of it as one plain text: choices are numbered below the text, and attachments are named by address.

    >>> as_text(of_text("Which day?"))
    'Which day?'
    """
    blocks = (plain_text(content), *numbered_choices(content), "\n".join(map(name_of, content.attachments)))
    return "\n\n".join(block for block in blocks if block)


def plain_text(content: OutboundContent) -> str:
    """The text without markup. A link keeps its address."""
    return _MARKS.sub(_without_mark, content.text) if content.format == TEXT_FORMAT_MARKDOWN else content.text


def numbered_choices(content: OutboundContent) -> Iterator[str]:
    """Buttons, or each section of the list, as lines that count from 1 over all of them.

    Buttons "Today" and "Our page" (which opens https://example.com) become "1. Today" and
    "2. Our page: https://example.com".
    """
    buttons = [button for row in content.buttons for button in row.buttons]
    if buttons:
        yield "\n".join(
            f"{number}. {button.title}" + (f": {button.url}" if button.url else "")
            for number, button in enumerate(buttons, 1)
        )
    number = 0
    for section in content.list.sections:
        lines = [section.title] if section.title else []
        for item in section.items:
            number += 1
            lines.append(f"{number}. {item.title}" + (f" - {item.description}" if item.description else ""))
        yield "\n".join(lines)


def name_of(attachment: Attachment) -> str:
    """An attachment in words. One without an address is shown by its name, or by a paper clip."""
    name, url = attachment.file_name, attachment.url
    return f"{name}: {url}" if name and url else url or name or "\N{PAPERCLIP}"


def _without_mark(mark: re.Match[str]) -> str:
    if mark["words"]:
        return f"{mark['words']} ({mark['address']})"
    return mark["shown"] or ""
