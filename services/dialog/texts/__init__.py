"""What every bot can say, by language, and the words that people use for the same thing."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from services.dialog.domain.bots import Bot

LOCALES = ("en", "ru")
"""Languages with texts of their own; the first is what others fall back to."""


@cache
def language_file(locale: str) -> Mapping[str, Any]:
    """The file of one of LOCALES. Numbers and truth words stay strings."""
    loaded: Mapping[str, Any] = yaml.load(
        (Path(__file__).parent / f"{locale}.yaml").read_text(encoding="utf-8"),
        getattr(yaml, "CBaseLoader", yaml.BaseLoader),  # noqa: S506 - it makes strings only
    )
    return loaded


def fallbacks(locale: str) -> tuple[str, ...]:
    """Where to look for a text, best first: `ru-KG` gives `ru-KG`, `ru`."""
    language = locale.replace("_", "-").split("-", 1)[0]
    return (locale,) if language == locale else (locale, language)


def language_of(locale: str) -> str:
    """The one of LOCALES that serves a bot of this locale."""
    return next((name for name in fallbacks(locale.lower()) if name in LOCALES), LOCALES[0])


def general_text(locale: str, key: str, section: str = "texts") -> str:
    """The text of a key, for example `error`, in the language nearest to the locale. Raises KeyError."""
    text: str = language_file(language_of(locale))[section][key]
    return text


def start_message(bot: Bot) -> str:
    return bot.start_message or general_text(bot.locale, "start")


def help_message(bot: Bot) -> str:
    return bot.help_message or general_text(bot.locale, "help")


def error_message(bot: Bot) -> str:
    """What a person gets when the turn failed for good."""
    return bot.error_message or general_text(bot.locale, "error")


def limit_message(bot: Bot) -> str:
    """What a person gets when a limit refuses."""
    return bot.limit_message or general_text(bot.locale, "limit")


def unsupported_message(bot: Bot) -> str:
    """What a person gets who sent nothing that the bot can read."""
    return general_text(bot.locale, "unsupported")
