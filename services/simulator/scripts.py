"""What the scripted model says."""

import re
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
from starlette.exceptions import HTTPException

_CYRILLIC = re.compile("[а-яё]", re.IGNORECASE)
_PIECE = re.compile(r"\S+\s*|\s+")
LONGEST_ECHO = 500
LONGEST_PAUSE = 60.0


class Script(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `POST /scripts`: what to say to the next `count` questions that match (0: to all)."""

    reply: str = ""
    refusal: str = ""
    incomplete: Literal["", "max_output_tokens", "content_filter"] = ""
    error_code: str = ""
    output: list[dict[str, Any]] = []
    contains: str = ""
    regex: str = ""
    seconds_per_piece: float = 0.0
    count: int = 1


@dataclass
class Scripted:
    """One answer, decided."""

    text: str = ""
    refusal: str = ""
    incomplete: str = ""
    error_code: str = ""
    output: list[dict[str, Any]] = field(default_factory=list)
    seconds_per_piece: float = 0.0

    def pieces(self, text: str) -> list[str]:
        """The text word by word."""
        return _PIECE.findall(text)


@dataclass(frozen=True)
class Conversation:
    """What the body of a request says, as far as the scripted model reads it."""

    model: str
    instructions: str
    messages: tuple[tuple[str, str], ...]
    max_output_tokens: int | None
    tools: list[Any]
    stream: bool

    @classmethod
    def of(cls, body: dict[str, Any]) -> "Conversation":
        given = body.get("input")
        items = [{"role": "user", "content": given}] if isinstance(given, str) else given
        messages = [
            (str(item.get("role", "")), _text(item.get("content")))
            for item in (items if isinstance(items, list) else [])
            if isinstance(item, dict) and item.get("role")
        ]
        most = body.get("max_output_tokens")
        return cls(
            model=str(body.get("model") or ""),
            instructions=str(body.get("instructions") or ""),
            messages=tuple(messages),
            max_output_tokens=most if isinstance(most, int) else None,
            tools=body.get("tools") or [],
            stream=body.get("stream") is True,
        )

    @property
    def question(self) -> str:
        """The last message of the person."""
        return next((text for role, text in reversed(self.messages) if role == "user"), "")

    @property
    def earlier(self) -> int:
        """How many messages came before the last one."""
        return max(len(self.messages) - 1, 0)

    @property
    def tokens(self) -> int:
        return tokens_of(self.instructions) + sum(tokens_of(text) for _, text in self.messages)


class Scripts:
    """Scripts in force; the first that matches a question is taken. Without one the question is echoed."""

    def __init__(self) -> None:
        self._scripts: list[tuple[Script, list[int]]] = []

    def add(self, script: Script) -> None:
        """Adds a script. Raises HTTPException 400 for one that makes no sense."""
        try:
            re.compile(script.regex)
        except (re.error, OverflowError, RecursionError) as error:
            raise HTTPException(400, f"regex: {error}") from error
        if not 0 <= script.seconds_per_piece <= LONGEST_PAUSE:
            raise HTTPException(400, f"seconds_per_piece: must be from 0 to {LONGEST_PAUSE:g}")
        self._scripts.append((script, [script.count or -1]))

    def answer(self, conversation: Conversation) -> Scripted:
        question = conversation.question
        for entry in self._scripts:
            script, left = entry
            if script.contains not in question or not re.search(script.regex, question):
                continue
            left[0] -= 1
            if left[0] == 0:
                self._scripts.remove(entry)
            text = script.reply.replace("{question}", question).replace("{earlier}", str(conversation.earlier))
            return Scripted(
                text, script.refusal, script.incomplete, script.error_code, script.output, script.seconds_per_piece
            )
        return _cut_off(Scripted(echo(conversation)), conversation.max_output_tokens)

    def shown(self) -> list[dict[str, Any]]:
        return [{**msgspec.to_builtins(script), "left": left[0]} for script, left in self._scripts]

    def clear(self) -> int:
        """Removes all scripts, and returns how many there were."""
        count = len(self._scripts)
        self._scripts.clear()
        return count


def echo(conversation: Conversation) -> str:
    """What is said without a script, in the language of the question."""
    question, earlier = conversation.question[:LONGEST_ECHO], conversation.earlier
    if _CYRILLIC.search(question):
        return f"Это ответ по сценарию, модель не подключена. Вы написали: «{question}». Сообщений до этого: {earlier}."
    return f'This is a scripted answer, no model is connected. You wrote: "{question}". Messages before: {earlier}.'


def tokens_of(text: str) -> int:
    """A number like a tokenizer's: one for every four bytes begun."""
    return (len(text.encode()) + 3) // 4


def _cut_off(scripted: Scripted, most: int | None) -> Scripted:
    if most is not None and tokens_of(scripted.text) > most:
        kept = scripted.text.encode()[: most * 4].decode("utf-8", "ignore")
        return Scripted(kept, incomplete="max_output_tokens")
    return scripted


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return "" if content is None else str(content)
