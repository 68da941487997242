"""The port to a language model. The driver is loaded by `open_model`, not by importing this."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from services.dialog.domain.flows import Usage

OnDelta = Callable[[str], Awaitable[None]]
"""Takes more text of an answer as it is made."""


@dataclass(frozen=True)
class Said:
    """One message of a conversation; `role` is `user` or `assistant`."""

    role: str
    text: str


@dataclass(frozen=True)
class Prompt:
    """One question to a model."""

    model: str
    """Empty for the default one."""
    instructions: str
    messages: Sequence[Said]
    max_output_tokens: int
    timeout: float
    """Seconds that the whole call may take."""
    thread_id: str = ""


class Finish(Enum):
    """How an answer ended."""

    COMPLETE = "complete"
    LENGTH = "length"
    """Cut off at `max_output_tokens`."""
    REFUSED = "refused"
    """By the model itself, or by its endpoint's filter."""


@dataclass(frozen=True)
class ModelAnswer:
    """What a model said. `text` may be empty."""

    text: str
    finish: Finish
    model: str
    response_id: str
    usage: Usage


class Model(Protocol):
    """Answers prompts."""

    async def answer(self, prompt: Prompt, on_delta: OnDelta) -> ModelAnswer:
        """Ask once, without retries. Raises DecisionError, classified by what may be done about it."""


async def open_model(
    *,
    base_url: str,
    api_key: str,
    default_model: str,
    prices: Mapping[str, "Price"] | None = None,
    show_text: bool = False,
) -> "ClosableModel":
    """A model behind an OpenAI-compatible endpoint, for example `https://api.openai.com/v1`.

    `prices` are those of prices.yaml when None; `show_text`: whether spans may hold what is said. Loads the driver,
    which takes about 45 MB and a second: call it once, in wiring. `close()` it at the end.
    """
    from services.dialog.model.openai_responses import OpenAIModel
    from services.dialog.model.prices import load_prices

    used = load_prices() if prices is None else prices
    return OpenAIModel(base_url, api_key, default_model, used, show_text=show_text)


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens, which is millionths of a dollar for one."""

    input: float
    cached_input: float
    output: float


class ClosableModel(Model, Protocol):
    """A model with connections."""

    async def close(self) -> None:
        """Close them."""
