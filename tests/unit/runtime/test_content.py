"""What plain text can show of an answer, and how answers are stored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.common.v1.content_pb2 import (
    ATTACHMENT_KIND_FILE,
    TEXT_FORMAT_MARKDOWN,
    Attachment,
    Button,
    ButtonRow,
    ChoiceList,
    ListItem,
    ListSection,
    OutboundContent,
)

from services.runtime.content import as_text, is_text, of_text, pack, plain_text, unpack
from services.runtime.validation import check

YES, PAGE = Button(title="Yes", data="yes"), Button(title="Our page", url="https://example.com/a")
LIST = ChoiceList(
    title="Services",
    sections=[
        ListSection(title="Hair", items=[ListItem(title="Cut", description="60 minutes", data="cut")]),
        ListSection(items=[ListItem(title="Manicure", data="manicure")]),
    ],
)
FILES = [
    Attachment(kind=ATTACHMENT_KIND_FILE, url="https://example.com/b.pdf"),
    Attachment(kind=ATTACHMENT_KIND_FILE, url="https://example.com/c.pdf", file_name="price.pdf"),
    Attachment(kind=ATTACHMENT_KIND_FILE, provider_file_id="7"),
]


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (of_text("Hi"), "Hi"),
        (
            OutboundContent(text="Well?", buttons=[ButtonRow(buttons=[YES]), ButtonRow(buttons=[PAGE])]),
            "Well?\n\n1. Yes\n2. Our page: https://example.com/a",
        ),
        (OutboundContent(text="Which?", list=LIST), "Which?\n\nHair\n1. Cut - 60 minutes\n\n2. Manicure"),
        (
            OutboundContent(attachments=FILES),
            "https://example.com/b.pdf\nprice.pdf: https://example.com/c.pdf\n\N{PAPERCLIP}",
        ),
    ],
)
def test_everything_can_be_said_in_plain_text(content: OutboundContent, shown: str) -> None:
    assert check(content) is None
    assert as_text(content) == shown


@pytest.mark.parametrize(
    ("marked", "plain"),
    [
        ("**Bold** and ~~not~~ `code`", "Bold and not code"),
        ("```\nlines\n```", "\nlines\n"),
        (r"2 \* 3, \*\*as it is\*\*, snake_case", "2 * 3, **as it is**, snake_case"),
        ("see [our page](https://example.com/a?b=1)", "see our page (https://example.com/a?b=1)"),
        ("[not](a link) [ or [ this", "[not](a link) [ or [ this"),
    ],
)
def test_markup_is_taken_off_and_words_stay(marked: str, plain: str) -> None:
    assert plain_text(OutboundContent(text=marked, format=TEXT_FORMAT_MARKDOWN)) == plain
    assert plain_text(of_text(marked)) == marked


@given(st.text(alphabet="ab[]()*~`\\ \nhttps://", max_size=200))
def test_markup_of_any_kind_is_read(text: str) -> None:
    assert len(plain_text(OutboundContent(text=text, format=TEXT_FORMAT_MARKDOWN))) <= len(text) + text.count("[")


def test_what_is_stored_comes_back_and_a_plain_text_is_stored_as_itself() -> None:
    rich = OutboundContent(text="Well?", buttons=[ButtonRow(buttons=[YES])])
    assert pack(of_text("Hi")) == "Hi"
    assert not is_text(rich)
    for content in (of_text(""), of_text("Hi"), rich):
        assert unpack(pack(content)) == content


@pytest.mark.parametrize(
    "content",
    [
        OutboundContent(),
        OutboundContent(buttons=[ButtonRow(buttons=[YES])]),
        OutboundContent(text="a", buttons=[ButtonRow(buttons=[YES])], list=LIST),
        OutboundContent(text="a", buttons=[ButtonRow(buttons=[Button(title="Neither")])]),
        OutboundContent(text="a", buttons=[ButtonRow(buttons=[Button(title="Other", url="javascript:alert(1)")])]),
        OutboundContent(text="a", attachments=[Attachment(kind=ATTACHMENT_KIND_FILE)]),
    ],
)
def test_what_nobody_could_show_is_refused(content: OutboundContent) -> None:
    assert check(content) is not None
