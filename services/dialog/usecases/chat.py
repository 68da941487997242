"""Answer at once: submit a message, pass on what its turn makes, and end with the stored reply."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from time import monotonic
from typing import Protocol
from uuid import UUID

from opentelemetry import context as otel

from parley.common.v1.identity_pb2 import IdentityKind
from parley.dialog.v1.dialog_pb2 import (
    TURN_OUTCOME_TAKEN_BY_OPERATOR,
    ChatRequest,
    ChatResponse,
    SubmitMessageRequest,
)

from services.dialog.domain.bots import Bot
from services.dialog.domain.items import TAKEN_BY_OPERATOR
from services.dialog.domain.turns import MessageState, Outcome, Plan
from services.dialog.ports import OneMessage, Stored
from services.dialog.usecases.submit import Submit, new_message
from services.kernel.clock import Clock
from services.kernel.errors import FieldViolation, Kind, ParleyError, not_found
from services.runtime.content import as_text

MARGIN = 0.2
"""Seconds before the caller's deadline at which it is told that the turn goes on."""
LONGEST = 300.0
"""Seconds that a caller without a deadline waits at most."""

_IDENTITIES = {
    IdentityKind.IDENTITY_KIND_PHONE: "phone",
    IdentityKind.IDENTITY_KIND_TELEGRAM: "telegram",
    IdentityKind.IDENTITY_KIND_WHATSAPP: "whatsapp",
    IdentityKind.IDENTITY_KIND_CHAT2DESK: "chat2desk",
    IdentityKind.IDENTITY_KIND_EXTERNAL: "external",
}
_FAILURES = {
    "MODEL_UNAVAILABLE": (Kind.UNAVAILABLE, "The model could not be reached; try again later."),
    "MODEL_TIMEOUT": (Kind.DEADLINE, "The model did not answer in time; try again later."),
    "MODEL_REJECTED": (Kind.PRECONDITION, "The model refused the call; the bot's settings or its key are wrong."),
    "BUDGET_EXCEEDED": (Kind.PRECONDITION, "The answer would take more steps, tokens or money than one turn may use."),
    "BOT_NOT_FOUND": (Kind.NOT_FOUND, "The bot does not exist."),
    "INVALID_FIELD": (Kind.INVALID, "The sender is not acceptable; a phone has its international form."),
    "INVALID_FORM": (Kind.PRECONDITION, "The bot's form cannot be read; store it anew."),
    TAKEN_BY_OPERATOR: (Kind.PRECONDITION, "An operator has the conversation and will answer."),
    "FORM_NOT_FOUND": (Kind.PRECONDITION, "The bot's form does not exist (any more)."),
}


@dataclass(frozen=True, slots=True)
class Delta:
    """More text of a preview."""

    text: str


@dataclass(frozen=True, slots=True)
class Reset:
    """The preview so far is void."""


@dataclass(frozen=True, slots=True)
class Done:
    """The reply is in the store."""


Event = Delta | Reset | Done


class Waiter(Protocol):
    """Hears of one message."""

    async def next(self, timeout: float) -> Event | None:
        """The next event; None when there was none for `timeout` seconds."""


class Waiters(Protocol):
    """Hears of messages from their workers. What it hears may be incomplete."""

    @property
    def process(self) -> str:
        """The name by which workers find this process."""

    def open(self, tenant_id: str, message_id: UUID) -> AbstractContextManager[Waiter]: ...


class OneBot(Protocol):
    async def get(self, tenant_id: str, bot_id: str) -> Bot:
        """Raises BOT_NOT_FOUND."""


class Chat:
    """One chat call."""

    def __init__(self, submit: Submit, messages: OneMessage, waiters: Waiters, bots: OneBot, clock: Clock) -> None:
        self._submit = submit
        self._messages = messages
        self._waiters = waiters
        self._bots = bots
        self._clock = clock

    async def __call__(self, request: ChatRequest, seconds: float | None) -> AsyncGenerator[ChatResponse, None]:
        """The events of a call that has so many seconds left, None for no end. The same request id gives the same
        message's reply. Raises BOT_NOT_FOUND, BOT_DISABLED, REQUEST_ID_REUSED, LIMIT_EXCEEDED, STILL_WORKING and what
        the model's failure was.
        """
        ends = monotonic() + (LONGEST if seconds is None else seconds) - MARGIN
        await self._check_bot(request)
        message = new_message(submission(request), chat=self._waiters.process)
        with ExitStack() as waiters:
            # Before it is stored, so that no word of its answer is missed.
            waiter = waiters.enter_context(self._waiters.open(request.tenant_id, message.message_id))
            (added,) = await self._submit.add([message], [otel.get_current()])
            if isinstance(added, Exception):
                raise added
            if added.duplicate:
                waiter = waiters.enter_context(self._waiters.open(request.tenant_id, added.message_id))
                await self._check_same(request, added.message_id)
            accepted = ChatResponse.Accepted(message_id=str(added.message_id), duplicate=added.duplicate)
            yield ChatResponse(accepted=accepted)
            final = await self._final(request, added.message_id) if added.duplicate else None
            while final is None:
                match await waiter.next(max(0.0, ends - monotonic())):
                    case Delta(text):
                        yield ChatResponse(delta=ChatResponse.Delta(text=text))
                    case Reset():
                        yield ChatResponse(reset=ChatResponse.Reset())
                    case Done():
                        final = await self._final(request, added.message_id)
                    case None:
                        raise still_working(added.message_id)
            yield ChatResponse(final=final)

    async def _check_bot(self, request: ChatRequest) -> None:
        """Nobody should wait for a bot that does not answer."""
        bot = await self._bots.get(request.tenant_id, request.bot_id)
        if not bot.enabled:
            message = f"The bot {bot.bot_id!r} is disabled."
            raise ParleyError(Kind.PRECONDITION, "BOT_DISABLED", message, metadata={"bot_id": bot.bot_id})

    async def _check_same(self, request: ChatRequest, message_id: UUID) -> None:
        stored = await self._stored(request.tenant_id, message_id)
        if stored.message.content != request.content:
            message = f"The request id {request.request_id!r} was used before with another text; choose a new one."
            metadata = {"request_id": request.request_id}
            raise ParleyError(Kind.EXISTS, "REQUEST_ID_REUSED", message, metadata=metadata)

    async def _final(self, request: ChatRequest, message_id: UUID) -> ChatResponse.Final | None:
        return final_of(await self._stored(request.tenant_id, message_id), self._now)

    async def _stored(self, tenant_id: str, message_id: UUID) -> Stored:
        stored = await self._messages.message(tenant_id, message_id)
        if stored is None:
            raise not_found("MESSAGE_NOT_FOUND", "message", "message_id", str(message_id))
        return stored

    def _now(self) -> float:
        return self._clock.now().timestamp()


def submission(request: ChatRequest) -> SubmitMessageRequest:
    """The message of a chat call: its conversation is the person's on the channel."""
    identity = request.sender.identity
    chat_id = f"{_IDENTITIES.get(identity.kind, identity.kind)}:{identity.value}"
    return SubmitMessageRequest(
        tenant_id=request.tenant_id,
        channel_id=request.channel_id,
        bot_id=request.bot_id,
        chat_id=chat_id,
        sender=request.sender,
        content=request.content,
        dedupe_key=f"chat:{chat_id}:{request.request_id}",
    )


def final_of(stored: Stored, now: Callable[[], float]) -> ChatResponse.Final | None:
    """The last event of a message; None while it is not answered. Raises what a failed turn means for the caller.
    `now` gives Unix seconds."""
    message, plan = stored.message, stored.plan
    state = MessageState(message.state)
    if state is MessageState.TERMINAL:
        raise _failure(message.terminal_reason, message.message_id)
    if state is not MessageState.COMPLETED:
        return None
    if message.outcome == TURN_OUTCOME_TAKEN_BY_OPERATOR:
        raise _failure(TAKEN_BY_OPERATOR, message.message_id)
    if plan is None:  # it does not open: nobody can wait for it
        raise _failure("INTERNAL", message.message_id)
    if plan.outcome is Outcome.LIMITED:
        raise _over_limit(plan, now())
    return ChatResponse.Final(
        reply="\n\n".join(map(as_text, plan.decided.replies)),
        usage=message.usage,
        remaining_today=plan.remaining,
        message_id=message.message_id,
    )


def still_working(message_id: UUID) -> ParleyError:
    text = "The answer is not ready yet; the same request id fetches it later."
    return ParleyError(Kind.DEADLINE, "STILL_WORKING", text, metadata={"message_id": str(message_id)})


def _over_limit(plan: Plan, now: float) -> ParleyError:
    refused = plan.refused
    assert refused is not None
    return ParleyError(
        Kind.EXHAUSTED,
        "LIMIT_EXCEEDED",
        f"The limit {refused.rule_id} is reached.",
        metadata={"rule_id": refused.rule_id, "remaining": str(refused.remaining)},
        retry_after=max(0.0, refused.retry_at.timestamp() - now),
    )


def _failure(reason: str, message_id: str) -> ParleyError:
    kind, text = _FAILURES.get(reason, (Kind.INTERNAL, "Something went wrong on our side; the log has the trace id."))
    reason = reason if reason in _FAILURES else "INTERNAL"
    fields = (FieldViolation("sender.identity.value", text),) if kind is Kind.INVALID else ()
    return ParleyError(kind, reason, text, fields, {"message_id": message_id})
