"""People who write while something goes wrong, and what must be true of them afterwards."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import uuid4

import aiohttp
import asyncpg

from parley.delivery.v1 import delivery_pb2
from parley.dialog.v1 import dialog_pb2, order_pb2

from deploy.local.embedded import EmbeddedPostgres
from parley_client.errors import DeadlineExceeded, Unavailable
from tests.support.mesh import Mesh, until
from tests.support.person import Person, body_of

SCRIPT = ("Привет", "ул. Киевская 120, кв. 5", "0555 123 456", "3", "да")
STEPS = ("Здравствуйте", "номер телефона", "Сколько бутылей", "Ваш заказ", "Заказ принят")
"""What the reply to each line of the script holds, and no other."""

PATIENCE = 180.0
"""Seconds within which all must have got well: leases, restarts and retries together take a tenth of it."""

T = TypeVar("T")
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Beyond:
    """What was done beyond the necessary."""

    replies: int = 0
    """Replies that a messenger took once more."""
    marked: int = 0
    """Replies that are marked as possibly sent twice."""
    questions: int = 0
    """Answers of a model beyond one a question."""

    def __add__(self, other: "Beyond") -> "Beyond":
        return Beyond(self.replies + other.replies, self.marked + other.marked, self.questions + other.questions)


@dataclass
class Customer:
    """Orders water through Chat2Desk, and sends each line as soon as the one before was acknowledged."""

    stack: Mesh
    twice: bool = False
    """Whether the provider sends each webhook twice at the same time."""
    person: Person = field(init=False)
    delivered: str = ""
    """The delivery whose part the provider has reported as delivered."""

    def __post_init__(self) -> None:
        self.person = Person(self.stack)

    async def write(self) -> None:
        """Returns when every line is acknowledged, and what became of the first reply."""
        for line in SCRIPT:
            message_id = f"{self.person.client_id}-{next(_numbers)}"
            sends = [self.person.send(line, message_id, PATIENCE) for _ in range(2 if self.twice else 1)]
            ids = set(await asyncio.gather(*sends))
            assert len(ids) == 1, f"one webhook became the messages {ids}"
        await self._report(time.monotonic() + PATIENCE)

    async def _report(self, end: float) -> None:
        """The provider says that the first reply was delivered."""
        while not (calls := await self._calls(1)):
            assert time.monotonic() < end, self._say("there is no first reply")
        await self.person.report(calls[0], "delivered", PATIENCE)
        self.delivered = calls[0]["body"]["external_id"].partition(".")[0]

    async def check(self) -> Beyond:
        """That every line is answered, in order, and with one order."""
        end = time.monotonic() + PATIENCE
        calls: list[dict[str, Any]] = []
        while {_step(call["text"]) for call in calls} != set(range(len(STEPS))):
            assert time.monotonic() < end, self._say("replies are missing", calls)
            calls = await self._calls(len(calls) + 1)
        marked = await self.check_records(end)
        calls = await self._calls(0)  # nothing more comes now
        steps = [_step(call["text"]) for call in calls]
        assert steps == sorted(steps), self._say("replies are out of order", calls)
        unmarked = {step for step, count in Counter(steps).items() if count > 1} - marked
        assert not unmarked, self._say(f"the replies {unmarked} came again and are not marked", calls)
        return Beyond(replies=len(calls) - len(SCRIPT), marked=len(marked))

    async def check_records(self, end: float) -> set[int]:
        """The same, as the services have it; the lines whose replies are marked as possibly sent twice."""
        messages = await self._finished(end)
        acknowledged = list(dict.fromkeys(self.person.message_ids))
        assert [message.message_id for message in messages] == acknowledged, self._say(f"{acknowledged}: {messages}")
        request = order_pb2.ListOrdersRequest(tenant_id="demo", conversation_id=messages[0].conversation_id)
        orders = (await _patiently(lambda: self.stack.orders.list_orders(request))).orders
        assert len(orders) == 1, self._say(f"{len(orders)} orders")
        parts = [await self._part(message) for message in messages]
        told = delivery_pb2.GetDeliveryRequest(tenant_id="demo", delivery_id=self.delivered)
        reply = (await _patiently(lambda: self.stack.delivery.get_delivery(told))).delivery
        assert reply.HasField("delivered_at"), self._say(f"a status is lost: {reply}")
        return {step for step, part in enumerate(parts) if part.possibly_duplicate}

    async def _calls(self, count: int) -> list[dict[str, Any]]:
        """What the provider took, after waiting a little for so many."""
        query = {"provider": "chat2desk", "client_id": self.person.client_id, "accepted": "true", "limit": "1000"}
        if count:
            query |= {"wait": "2", "count": str(count)}
        async with self.stack.http.get(f"{self.stack.simulator}/calls", params=query) as response:
            calls: list[dict[str, Any]] = (await response.json())["calls"]
        return calls

    async def _finished(self, end: float) -> list[dialog_pb2.Message]:
        """The messages, once they are completed and dialog knows when all replies were sent. That a reply was delivered
        says when it was sent at the latest, until dialog hears of that as well."""
        first = await _message(self.stack, self.person.message_ids[0])
        request = dialog_pb2.ListMessagesRequest(tenant_id="demo", conversation_id=first.conversation_id)
        while True:
            found = (await _patiently(lambda: self.stack.dialog.list_messages(request))).messages
            messages = list(reversed(found))
            if len(found) == len(SCRIPT) and all(_settled(message) for message in found) and _in_order(messages):
                return messages
            why = "\n".join(_in_short(message) for message in found)
            assert time.monotonic() < end, self._say(f"messages are not finished:\n{why}")
            await asyncio.sleep(0.5)

    async def _part(self, message: dialog_pb2.Message) -> delivery_pb2.Part:
        request = delivery_pb2.GetDeliveryRequest(tenant_id="demo", delivery_id=message.replies[0].delivery_id)
        delivery = (await _patiently(lambda: self.stack.delivery.get_delivery(request))).delivery
        assert len(message.replies) == len(delivery.parts) == 1, self._say(f"{message}\n{delivery}")
        assert delivery.parts[0].state == delivery_pb2.PART_STATE_SENT, self._say(str(delivery))
        return delivery.parts[0]

    def _say(self, what: str, calls: Sequence[dict[str, Any]] = ()) -> str:
        texts = [f"{call['at']:.3f} {call['text'][:60]!r}" for call in calls]
        return "\n".join([f"{self.person.client_id}: {what}", *texts, said(self.stack)])


@dataclass
class Asker:
    """Asks the assistant over the REST API; an answer that does not come is asked for again with the same key."""

    stack: Mesh
    questions: int = 2
    telegram_id: int = field(default_factory=lambda: uuid4().int % 10**12)
    answers: list[dict[str, Any]] = field(default_factory=list)

    def text(self, number: int) -> str:
        return f"Вопрос {number} от {self.telegram_id}"

    async def write(self) -> None:
        """Returns when every question is answered."""
        for number in range(self.questions):
            key = f"{self.telegram_id}-{number}"
            first = await self._answer(self.text(number), key)
            again = await self._answer(self.text(number), key)
            assert (first["message_id"], first["reply"]) == (again["message_id"], again["reply"]), (first, again)
            self.answers.append(first)

    async def _answer(self, text: str, key: str) -> dict[str, Any]:
        headers = {"X-API-KEY": self.stack.demo["api"]["key"], "Idempotency-Key": key}
        body = {"telegram_id": self.telegram_id, "message": text}
        end = time.monotonic() + PATIENCE
        tries: Counter[str] = Counter()
        while True:
            try:
                url = f"{self.stack.edge}/v1/chat/send"
                async with self.stack.http.post(url, json=body, headers=headers) as response:
                    status, answer = response.status, await body_of(response)
            except (aiohttp.ClientError, OSError) as error:
                status, answer = 0, {"error": repr(error)}
            if status == 200:
                result: dict[str, Any] = answer
                return result
            tries[f"{status} {answer}"] += 1
            assert status in (0, 500, 503, 504), f"{self.telegram_id}: {status}: {answer}"
            assert time.monotonic() < end, f"{self.telegram_id} has no answer: {tries}\n{said(self.stack)}"
            await asyncio.sleep(0.1)

    async def check(self) -> Beyond:
        """That each question was put to the model, and charged once."""
        query = {"provider": "openai", "accepted": "true", "limit": "1000"}
        async with self.stack.http.get(f"{self.stack.simulator}/calls", params=query) as response:
            calls = Counter(call["text"] for call in (await response.json())["calls"])
        asked = [calls[self.text(number)] for number in range(self.questions)]
        assert min(asked) >= 1, f"{self.telegram_id}: the model was asked {asked} times"
        await self.check_records()
        return Beyond(questions=sum(asked) - self.questions)

    async def check_records(self) -> None:
        """The same, as the services have it."""
        message = await _message(self.stack, self.answers[0]["message_id"])
        charged = await _charged(self.stack, message.contact_id)
        assert charged == self.questions, f"{self.telegram_id}: {self.questions} questions cost {charged}"
        left = [answer["remaining_today"] for answer in self.answers]
        assert left == sorted(left, reverse=True), f"{self.telegram_id}: remaining_today goes {left}"
        assert left[0] <= 29, left


Member = Customer | Asker


def crowd(stack: Mesh, customers: int = 4, askers: int = 2) -> list[Member]:
    """People, half of whose webhooks come twice."""
    return [
        *(Customer(stack, twice=number % 2 == 1) for number in range(customers)),
        *(Asker(stack) for _ in range(askers)),
    ]


async def write(members: Sequence[Member]) -> None:
    """All at once, until all that they said is acknowledged (and questions answered)."""
    await asyncio.gather(*(member.write() for member in members))


async def under_way(members: Sequence[Member]) -> None:
    """Returns when one of them has been acknowledged something, and most has yet to be said."""
    people = [member.person for member in members if isinstance(member, Customer)]
    await until(lambda: _is(any(person.message_ids for person in people)), PATIENCE, "acknowledged message")


async def check(members: Sequence[Member]) -> Beyond:
    """That nothing is lost, out of order or done twice."""
    return sum(await asyncio.gather(*(member.check() for member in members)), Beyond())


def restarts(stack: Mesh) -> dict[str, int]:
    """How often each process was started again."""
    return {process["name"]: process["restarts"] for process in stack.state["processes"]}


async def back(stack: Mesh, names: Iterable[str], before: Mapping[str, int]) -> None:
    """Returns when these, which have died since `before`, run again, and all processes are well."""
    died = set(names)

    async def restarted() -> bool:
        now = restarts(stack)
        return all(now[name] > before[name] for name in died)

    await until(restarted, PATIENCE, f"restart of {died}", lambda: said(stack))
    await stack.healthy()


async def kill(stack: Mesh, name: str) -> None:
    """Kill a process, and wait until all are well again."""
    before = restarts(stack)
    stack.kill(name)
    await back(stack, [name], before)


def said(stack: Mesh, lines: int = 6) -> str:
    """The last warnings and errors of each service."""
    told = []
    for path in sorted((stack.home / "logs").glob("*.log")):
        found = [line[:400] for line in path.read_text(errors="replace").splitlines() if _is_bad(line)]
        told += [f"--- {path.name}", *found[-lines:]] if found else []
    return "\n".join(told)


def _is_bad(line: str) -> bool:
    return any(f'"level": "{level}"' in line for level in ("warning", "error", "critical"))


def _step(text: str) -> int:
    return next((number for number, part in enumerate(STEPS) if part in text), -1)


def _settled(message: dialog_pb2.Message) -> bool:
    return message.state == dialog_pb2.MESSAGE_STATE_COMPLETED and message.HasField("sent_at")


def _in_order(messages: Sequence[dialog_pb2.Message]) -> bool:
    """Whether their replies were sent one after the other."""
    sent = [message.sent_at.ToNanoseconds() for message in messages]
    return sent == sorted(sent)


def _in_short(message: dialog_pb2.Message) -> str:
    state = dialog_pb2.MessageState.Name(message.state)
    replies = [dialog_pb2.ReplyState.Name(reply.state) for reply in message.replies]
    sent = message.sent_at.ToJsonString()
    return f"  {message.message_id} {state} attempts={message.attempts} {message.last_error} {replies} sent {sent}"


async def _message(stack: Mesh, message_id: str) -> dialog_pb2.Message:
    request = dialog_pb2.GetMessageRequest(tenant_id="demo", message_id=message_id)
    return (await _patiently(lambda: stack.dialog.get_message(request))).message


async def _is(value: object) -> object:
    return value


async def _patiently(call: Callable[[], Awaitable[T]]) -> T:
    """The answer of a service that may be dead just now."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return await call()
        except (Unavailable, DeadlineExceeded):
            if time.monotonic() > end:
                raise
        await asyncio.sleep(0.2)


async def _charged(stack: Mesh, contact_id: str) -> int:
    """Units of the day that Postgres has against a contact. GetUsage also counts what crashed attempts still hold."""
    connection = await asyncpg.connect(EmbeddedPostgres(stack.home / "postgres").url)
    try:
        sql = "SELECT coalesce(sum(used), 0) FROM limits.counters WHERE rule_id = 'daily-quota' AND value = $1"
        return int(await connection.fetchval(sql, contact_id))
    finally:
        await connection.close()
