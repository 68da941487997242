"""What people say: the water-order dialog as Chat2Desk's hooks, and the replies that are right at each step."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from tests.benchmarks.wire import request_bytes

_HOOK = (
    '{"message_id":%d,"type":"from_client","text":"%s","transport":"whatsapp","client_id":%d,"operator_id":null,'
    '"dialog_id":%d,"channel_id":7,"photo":null,"video":null,"audio":null,"pdf":null,'
    '"client":{"id":%d,"phone":"+996%d","name":"Айгуль"},"hook_type":"inbox","request_id":%d,"attachments":[],'
    '"is_new_request":false,"is_new_client":false,"extra_data":{},"event_time":"2026-11-20T09:30:00Z"}'
)

WATER_ORDER = ("Здравствуйте", "Бишкек, улица Киевская {client}, квартира 5", "+996555123456", "3", "да")
"""Every text is right where it is said; the address shows whose dialog an answer belongs to."""


def client_number(index: int) -> int:
    """The provider's id of a person; nine digits, so that none is a part of another."""
    return 100_000_000 + index


@dataclass(frozen=True)
class Expected:
    """How one reply begins and ends. What differs between two people (an order's number) lies between."""

    head: str
    tail: str
    exact: bool

    def matches(self, text: str, client: int) -> bool:
        text = text.replace(str(client), "{client}")
        if self.exact:
            return text == self.head
        return text.startswith(self.head) and text.endswith(self.tail)


@dataclass(frozen=True)
class Script:
    """A dialog: what is said, and what must come back (a list of replies for each thing said)."""

    lines: Sequence[str]
    replies: Sequence[Sequence[Expected]]

    def hook(self, step: int, client: int, message: int) -> bytes:
        """The body of a webhook."""
        text = self.lines[step].replace("{client}", str(client))
        return (_HOOK % (message, text, client, client, client, client, message)).encode()


@dataclass(frozen=True)
class Target:
    """Where a webhook goes."""

    path: str
    host: str
    secret: str

    def request(self, body: bytes) -> bytes:
        return request_bytes("POST", self.path, self.host, body, f"X-Webhook-Secret: {self.secret}\r\n")


def learn(lines: Sequence[str], first: dict[int, list[list[str]]]) -> Script:
    """Make a script of what two or more people (by number) were told at each step when nothing was in a hurry.

    Raises ValueError when they were told different numbers of replies, or none.
    """
    told = [[[text.replace(str(who), "{client}") for text in step] for step in steps] for who, steps in first.items()]
    replies: list[list[Expected]] = []
    for number, steps in enumerate(zip(*told, strict=True)):
        counts = {len(step) for step in steps}
        if len(counts) != 1 or 0 in counts:
            raise ValueError(f"people were told different things after {lines[number]!r}: {steps}")
        replies.append([_common(texts) for texts in zip(*steps, strict=True)])
    return Script(lines, replies)


def _common(texts: Sequence[str]) -> Expected:
    if len(set(texts)) == 1:
        return Expected(texts[0], "", True)
    head = _common_start(texts)
    tail = _common_start([text[len(head) :][::-1] for text in texts])[::-1]
    return Expected(head, tail, False)


def _common_start(texts: Sequence[str]) -> str:
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*texts, strict=False))
    return "".join(letters[0] for letters in alike)
