"""What providers of different capabilities make of an answer."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.common.v1.content_pb2 import (
    ATTACHMENT_KIND_FILE,
    ATTACHMENT_KIND_IMAGE,
    TEXT_FORMAT_MARKDOWN,
    TEXT_FORMAT_UNSPECIFIED,
    Attachment,
    Button,
    ButtonRow,
    ChoiceList,
    ListItem,
    ListSection,
    OutboundContent,
)

from services.delivery.domain.rendering import Capabilities, render
from services.delivery.providers.registry import PROVIDERS
from services.runtime.content import of_text

PLAIN, LONG = Capabilities(max_text=20), Capabilities(max_text=99)
RICH = Capabilities(
    max_text=20,
    formats=frozenset({TEXT_FORMAT_MARKDOWN}),
    buttons=3,
    button_title=10,
    button_data=8,
    list_items=2,
    list_title=10,
    attachments=frozenset({ATTACHMENT_KIND_IMAGE}),
)
IMAGE = Attachment(kind=ATTACHMENT_KIND_IMAGE, url="https://a.example/i.jpg")
FILE = Attachment(kind=ATTACHMENT_KIND_FILE, url="https://a.example/f")


def asked(text: str, *buttons: Button) -> OutboundContent:
    return OutboundContent(text=text, buttons=[ButtonRow(buttons=[button]) for button in buttons])


def texts(content: OutboundContent, capabilities: Capabilities) -> list[str]:
    return [part.text for part in render(content, capabilities)]


def test_a_short_text_is_one_message_as_it_stands() -> None:
    content = of_text(" short ")
    assert render(content, PLAIN) == (content,)


def test_a_long_text_is_several_messages() -> None:
    assert texts(of_text("one two three four five six"), PLAIN) == ["one two three four", "five six"]


def test_buttons_are_below_the_last_message_where_a_provider_has_them() -> None:
    content = asked("one two three four five six", Button(title="Yes", data="y"))
    first, last = render(content, RICH)
    assert (first.text, len(first.buttons)) == ("one two three four", 0)
    assert (last.text, last.buttons) == ("five six", content.buttons)


@pytest.mark.parametrize(
    "button",
    [
        Button(title="longer than ten", data="y"),
        Button(title="data", data="longer than eight"),
        Button(title="page", url="https://a.example"),
    ],
)
def test_buttons_of_which_one_does_not_fit_are_numbered_all(button: Button) -> None:
    shown = "\n".join(texts(asked("Well?", Button(title="Yes", data="y"), button), RICH))
    assert "1. Yes" in shown
    assert f"2. {button.title}" in shown


def test_choices_are_numbered_where_a_provider_has_no_buttons_or_not_so_many() -> None:
    buttons = [Button(title=str(number), data="d") for number in range(4)]
    for capabilities in (PLAIN, RICH):
        shown = render(asked("Well?", *buttons), capabilities)
        assert "".join(part.text for part in shown).startswith("Well?\n\n1. 0\n2. 1")
        assert not any(part.buttons for part in shown)


def test_a_list_is_shown_as_one_or_numbered() -> None:
    items = [ListItem(title="Cut", data="c"), ListItem(title="Dye", data="d")]
    content = OutboundContent(text="Which?", list=ChoiceList(sections=[ListSection(items=items)]))
    assert render(content, RICH) == (content,)
    assert texts(content, LONG) == ["Which?\n\n1. Cut\n2. Dye"]


def test_a_format_is_kept_where_it_is_known_and_the_text_is_one_message() -> None:
    content = OutboundContent(text="**bold**", format=TEXT_FORMAT_MARKDOWN)
    assert render(content, RICH) == (content,)
    assert render(content, PLAIN) == (of_text("bold"),)
    parts = render(OutboundContent(text="**one two three four** five", format=TEXT_FORMAT_MARKDOWN), RICH)
    assert [(part.text, part.format) for part in parts] == [
        ("one two three four", TEXT_FORMAT_UNSPECIFIED),
        ("five", TEXT_FORMAT_UNSPECIFIED),
    ]


def test_files_go_first_and_those_that_cannot_be_sent_are_named() -> None:
    content = OutboundContent(text="Look", attachments=[FILE, IMAGE])
    image, *rest = render(content, replace(RICH, max_text=99))
    assert image == OutboundContent(attachments=[IMAGE])
    assert [part.text for part in rest] == ["Look\n\nhttps://a.example/f"]
    assert render(OutboundContent(attachments=[IMAGE]), RICH) == (OutboundContent(attachments=[IMAGE]),)
    assert texts(OutboundContent(attachments=[IMAGE]), LONG) == [IMAGE.url]


CONTENTS = st.builds(
    OutboundContent,
    text=st.text(max_size=60),
    format=st.sampled_from([TEXT_FORMAT_UNSPECIFIED, TEXT_FORMAT_MARKDOWN]),
    buttons=st.lists(st.just(ButtonRow(buttons=[Button(title="Yes", data="y")])), max_size=5),
    attachments=st.lists(st.sampled_from([IMAGE, FILE]), max_size=3),
)


@given(CONTENTS)
def test_rendering_is_total_and_nothing_is_too_long(content: OutboundContent) -> None:
    known = [PLAIN, RICH, *(provider.capabilities for provider in PROVIDERS.values())]
    for capabilities in known:
        parts = render(content, capabilities)
        assert parts
        for part in parts:
            assert len(part.text.encode("utf-16-le")) // 2 <= capabilities.max_text
            assert sum(len(row.buttons) for row in part.buttons) <= capabilities.buttons
