"""What Chat2Desk's answers mean."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
import pytest

from services.delivery.domain.channels import Channel, ProviderKind
from services.delivery.domain.failures import Failure, FailureKind
from services.delivery.domain.scrubbing import scrub
from services.delivery.providers.base import Outbound, Sent
from services.delivery.providers.calls import HttpCalls
from services.delivery.providers.chat2desk import PROVIDER, Chat2DeskSettings
from services.delivery.providers.classify import retry_after
from services.delivery.providers.exchanges import Answer, NoAnswer, NotSent, Request, Result
from services.delivery.providers.http import HttpClient
from services.kernel.clock import SystemClock
from services.runtime.content import of_text
from services.runtime.egress import Egress

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
OUTBOUND = Outbound("0198d2a0-0000-7000-8000-000000000001.0", "42", of_text("Сколько бутылей?"))


def channel(api_base: str = "https://api.example") -> Channel:
    settings, secrets = Chat2DeskSettings(api_base), {"token": "tok-en", "webhook_secret": "s"}
    return Channel(1, "acme", "c", ProviderKind.CHAT2DESK, "water", settings, True, "", secrets, 1, NOW, NOW)


@dataclass
class FakeHttp:
    """Answers all calls with the same."""

    result: Result
    timeout: float = 10.0
    asked: list[Request] = field(default_factory=list)

    async def call(self, request: Request) -> Result:
        self.asked.append(request)
        return self.result


async def send(result: Result) -> Sent | Failure:
    return await calls(FakeHttp(result)).make(PROVIDER, OUTBOUND, channel())


def calls(http: FakeHttp | HttpClient) -> HttpCalls:
    return HttpCalls(http, SystemClock())  # type: ignore[arg-type]


async def test_the_call_is_as_chat2desk_wants_it() -> None:
    http = FakeHttp(Answer(200, {}, b"{}"))
    await calls(http).make(PROVIDER, OUTBOUND, channel())
    await calls(http).make(PROVIDER, OUTBOUND, channel(""))
    request, default = http.asked
    assert (request.method, request.url) == ("POST", "https://api.example/v1/messages")
    assert default.url == "https://api.chat2desk.com/v1/messages"
    assert request.headers["Authorization"] == "tok-en"
    assert isinstance(request.body, bytes)
    assert msgspec.json.decode(request.body) == {
        "client_id": "42",
        "text": "Сколько бутылей?",
        "type": "to_client",
        "external_id": OUTBOUND.part_id,
    }


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"status": "success", "data": {"message_id": 77}}', "77"),
        (b'{"status": "success", "data": {"id": "abc"}}', "abc"),
        (b'{"status": "success", "data": []}', ""),
        (b"[]", ""),
        (b"not JSON", ""),
        (b"", ""),
        (b'{"data": {"message_id": "a\\u0000b"}}', "ab"),
        (b'{"status": "success \xff"}', ""),
        (b"[" * 60_000, ""),
    ],
)
async def test_what_is_taken_is_sent_whatever_else_it_says(body: bytes, expected: str) -> None:
    assert await send(Answer(200, {}, body)) == Sent(expected)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, FailureKind.TERMINAL),
        (302, FailureKind.FATAL),
        (400, FailureKind.TERMINAL),
        (401, FailureKind.FATAL),
        (403, FailureKind.FATAL),
        (404, FailureKind.TERMINAL),
        (408, FailureKind.RETRYABLE),
        (425, FailureKind.RETRYABLE),
        (429, FailureKind.RETRYABLE),
        (500, FailureKind.RETRYABLE),
        (503, FailureKind.RETRYABLE),
    ],
)
async def test_each_status_has_its_meaning(status: int, kind: FailureKind) -> None:
    body = b'{"status": "error", "message": "no"}'
    result = await send(Answer(status, {"retry-after": "9"}, body))
    assert isinstance(result, Failure)
    assert (result.kind, result.http_status) == (kind, status)
    assert result.error == (
        "api_base: it answers with a redirect, and redirects are not followed" if status == 302 else "no"
    )
    assert result.rate_limited == (status == 429)
    assert result.retry_after == (9.0 if kind is FailureKind.RETRYABLE else None)


@pytest.mark.parametrize("body", ['{"message": "нет"}'.encode("cp1251"), b"[" * 60_000, b'{"a":' * 9_000])
async def test_a_status_means_the_same_whatever_the_body_is(body: bytes) -> None:
    assert await send(Answer(400, {}, body)) == Failure(FailureKind.TERMINAL, 400)
    assert await send(Answer(429, {}, body)) == Failure(FailureKind.RETRYABLE, 429, rate_limited=True)


async def test_no_answer_is_unknown_only_when_the_request_left() -> None:
    assert await send(NotSent("no")) == Failure(FailureKind.RETRYABLE, 0, "no")
    assert await send(NotSent("no", True)) == Failure(FailureKind.FATAL, 0, "api_base: no")
    assert await send(NoAnswer("no")) == Failure(FailureKind.UNKNOWN_OUTCOME, 0, "no")


async def test_a_wrong_address_breaks_the_channel() -> None:
    result = await calls(HttpClient(Egress())).make(PROVIDER, OUTBOUND, channel("http://host:99999"))
    assert isinstance(result, Failure)
    assert result.kind is FailureKind.FATAL


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("", None),
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("99999", 3600.0),
        ("nan", None),
        ("soon", None),
        ("Sat, 21 Nov 2026 12:00:30 GMT", 30.0),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0.0),
        ("Sat, 21 Nov 99999 11:00:00 GMT", None),
        ("Sat, 21 Nov 2026 11:00:00 +99999999", None),
        ("inf", 3600.0),
        ("-inf", 0.0),
        ("1e999", 3600.0),
    ],
)
def test_retry_after_is_a_number_or_a_date(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value}, NOW) == seconds


def test_what_is_kept_of_an_error_holds_nothing_of_a_person() -> None:
    words = "client 42: 'my text' to +996 555 12-34-56 with tok-en \x00" + "x" * 1000
    kept = scrub(words, ("my text", "tok-en", ""))
    assert kept.startswith("client 42: '***' to *** with *** x")
    assert len(kept) == 300


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ({"message": "blocked"}, "blocked"),
        ({"message": {"internal": "state"}, "error": "blocked"}, "blocked"),
        ({"errors": ["one", 2, "three"]}, "one, three"),
        ({"errors": "one"}, "one"),
        ({"errors": {"text": ["can't be blank"], "client_id": "is unknown", "elsewhere": ["secret"]}}, None),
        ({"errors": {"text": {"deep": "secret"}}}, ""),
        ({"secret": "of another service"}, ""),
        ("a page of another service", ""),
    ],
)
async def test_only_the_providers_own_words_are_kept_of_an_answer(answer: object, kept: str | None) -> None:
    result = await send(Answer(400, {}, msgspec.json.encode(answer)))
    assert isinstance(result, Failure)
    assert result.error == ("client_id: is unknown; text: can't be blank" if kept is None else kept)


async def test_what_is_kept_of_errors_by_field_holds_nothing_of_what_we_sent() -> None:
    text = 'Say "yes",\nор нет?'
    errors = {"text": [f"is wrong: {text}"], "client_id": "no 42 or 996555123456"}
    http = FakeHttp(Answer(400, {}, msgspec.json.encode({"status": "error", "errors": errors})))
    outbound = Outbound(OUTBOUND.part_id, "42", of_text(text))
    result = await calls(http).make(PROVIDER, outbound, channel())
    assert isinstance(result, Failure)
    assert result.error == "client_id: no *** or ***; text: is wrong: ***"
