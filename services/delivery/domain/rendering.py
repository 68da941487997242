"""Turns what a bot answers into messages that a provider can show. Pure and total: whatever a provider cannot do comes
down to text, which all of them can send.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from parley.common.v1.content_pb2 import AttachmentKind, Button, OutboundContent

from services.delivery.domain.splitting import split
from services.runtime.content import is_text, name_of, numbered_choices, of_text, plain_text


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What one message of a provider can hold. A default of zero or nothing says that the provider cannot do it."""

    max_text: int
    """UTF-16 units of a text."""
    formats: frozenset[int] = frozenset()
    """Values of `TextFormat` that it shows, besides plain text."""
    buttons: int = 0
    """Buttons below one text, over all rows."""
    button_title: int = 0
    """Characters of a button's title."""
    button_data: int = 0
    """Bytes of what a button sends back."""
    links: bool = False
    """Buttons may open pages."""
    list_items: int = 0
    """Entries of a list, over all sections."""
    list_title: int = 0
    """Characters of an entry's title."""
    attachments: frozenset[AttachmentKind.ValueType] = frozenset()
    """Kinds of files that it sends, one a message, from an address."""


def render(content: OutboundContent, capabilities: Capabilities) -> Sequence[OutboundContent]:
    """The messages, in their order and at least one: the files, then the text with its choices below its end.

    Choices that cannot be offered are numbered below the text, and files that cannot be sent are named there. A text
    keeps its format if it is one message as it stands; otherwise people see it without markup.
    """
    if is_text(content) and 2 * len(content.text) <= capabilities.max_text:
        return (content,)  # it fits however many UTF-16 units its characters take
    files = [file for file in content.attachments if file.url and file.kind in capabilities.attachments]
    named = [name_of(file) for file in content.attachments if file not in files]
    offered = _offers(content, capabilities)
    below = [*(() if offered else numbered_choices(content)), "\n".join(named)]
    messages = [OutboundContent(attachments=[file]) for file in files]
    texts = _texts(content, [block for block in below if block], capabilities)
    if offered and texts:
        texts[-1].buttons.extend(content.buttons)
        if content.HasField("list"):
            texts[-1].list.CopyFrom(content.list)
    return (*messages, *texts)


def _texts(content: OutboundContent, below: Sequence[str], capabilities: Capabilities) -> list[OutboundContent]:
    if not (content.text or below) and content.attachments:
        return []
    limit = capabilities.max_text
    if content.format in capabilities.formats and not below and len(split(content.text, limit)) == 1:
        return [OutboundContent(text=content.text, format=content.format)]
    whole = "\n\n".join((plain_text(content), *below)) if content.text else "\n\n".join(below)
    return [of_text(whole[start:end]) for start, end in split(whole, limit)]


def _offers(content: OutboundContent, capabilities: Capabilities) -> bool:
    """Whether all of its choices can be shown as they are; some alone would hide the others."""
    buttons = [button for row in content.buttons for button in row.buttons]
    items = [item for section in content.list.sections for item in section.items]
    return (
        len(buttons) <= capabilities.buttons
        and all(_fits(button, capabilities) for button in buttons)
        and len(items) <= capabilities.list_items
        and all(len(item.title) <= capabilities.list_title for item in items)
    )


def _fits(button: Button, capabilities: Capabilities) -> bool:
    fits = len(button.title) <= capabilities.button_title and len(button.data.encode()) <= capabilities.button_data
    return fits and (capabilities.links or not button.url)
