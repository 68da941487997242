"""Texts of all languages."""

import string

import pytest

from services.dialog.domain.bots import Bot, FormSettings
from services.dialog.texts import (
    LOCALES,
    error_message,
    general_text,
    language_file,
    limit_message,
    start_message,
    unsupported_message,
)


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("section", ["texts", "form", "words"])
def test_every_language_has_the_same_keys(locale: str, section: str) -> None:
    assert language_file(locale)[section].keys() == language_file(LOCALES[0])[section].keys()


@pytest.mark.parametrize("locale", LOCALES)
def test_every_language_uses_the_same_placeholders(locale: str) -> None:
    def names(text: str) -> set[str | None]:
        return {name for _, name, _, _ in string.Formatter().parse(text)}

    for key, text in language_file(locale)["form"].items():
        assert names(text) == names(language_file(LOCALES[0])["form"][key]), key


@pytest.mark.parametrize(
    ("locale", "language"), [("ru", "ru"), ("ru-KG", "ru"), ("RU_kg", "ru"), ("en", "en"), ("ky", "en"), ("", "en")]
)
def test_the_nearest_language_is_spoken(locale: str, language: str) -> None:
    assert general_text(locale, "error") == language_file(language)["texts"]["error"]


def test_a_bots_own_texts_come_first() -> None:
    plain = Bot("t", "b", FormSettings("water-order"), locale="ru")
    own = Bot("t", "b", FormSettings("water-order"), error_message="E", limit_message="L", start_message="S")
    assert (error_message(own), limit_message(own), start_message(own)) == ("E", "L", "S")
    for text in (error_message, limit_message, start_message, unsupported_message):
        assert text(plain)
