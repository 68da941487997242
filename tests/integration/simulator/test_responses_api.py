"""The Responses API stand-in with the official client, and our model adapter on it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import openai
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from services.dialog.domain.failures import DecisionError, FailureKind
from services.dialog.model import (
    Finish,
    Price,
    Prompt,
    Said,
    open_model,
    openai_responses,
)
from services.dialog.model.openai_responses import OpenAIModel
from tests.support.simulator import Simulator

PROMPT = Prompt("", "You sell water.", [Said("user", "Есть вода?")], 200, 5.0, "thread-1")
PRICES = {"scripted": Price(1, 0.5, 2)}


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{simulator.url}/openai/v1", api_key="key", max_retries=0) as client:
        yield client


@pytest.fixture
async def model(simulator: Simulator) -> AsyncIterator[OpenAIModel]:
    base_url = f"{simulator.url}/openai/v1"
    made = await open_model(base_url=base_url, api_key="key", default_model="scripted", prices=PRICES)
    assert isinstance(made, OpenAIModel)
    yield made
    await made.close()


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(openai_responses, "_tracer", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


class Heard:
    """Collects deltas."""

    def __init__(self) -> None:
        self.deltas: list[str] = []

    async def __call__(self, text: str) -> None:
        self.deltas.append(text)


async def failure_of(model: OpenAIModel, prompt: Prompt = PROMPT) -> DecisionError:
    with pytest.raises(DecisionError) as caught:
        await model.answer(prompt, Heard())
    return caught.value


async def test_plain_response_echoes_counts_and_says_it_is_scripted(client: openai.AsyncOpenAI) -> None:
    response = await client.responses.create(
        model="scripted",
        instructions="Hi",
        input=[
            {"role": "user", "content": "One"},
            {"role": "assistant", "content": "Two"},
            {"role": "user", "content": [{"type": "input_text", "text": "Three?"}]},
        ],
    )
    assert response.output_text == (
        'This is a scripted answer, no model is connected. You wrote: "Three?". Messages before: 2.'
    )
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens


async def test_the_clients_stream_helper_reads_the_events(client: openai.AsyncOpenAI) -> None:
    async with client.responses.stream(model="scripted", input="Привет") as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert "Вы написали: «Привет»" in final.output_text
    assert "по сценарию" in final.output_text


async def test_models_are_listed(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["scripted"]


async def test_an_answer_comes_in_deltas_with_tokens_and_price(simulator: Simulator, model: OpenAIModel) -> None:
    heard = Heard()
    answer = await model.answer(PROMPT, heard)
    assert answer.text == "".join(heard.deltas)
    assert len(heard.deltas) > 5
    assert (answer.finish, answer.model) == (Finish.COMPLETE, "scripted")
    usage = answer.usage
    assert usage.calls == 1
    assert usage.input_tokens > 0
    assert usage.price_micros_usd == usage.input_tokens + 2 * usage.output_tokens
    [call] = await simulator.calls(provider="openai")
    assert call["body"]["instructions"] == "You sell water."
    assert call["body"]["store"] is False
    assert call["body"]["prompt_cache_key"] == "thread-1"
    assert call["headers"]["authorization"] == "Bearer key"


async def test_scripts_say_what_they_are_told(simulator: Simulator, model: OpenAIModel) -> None:
    await simulator.script(reply="Да, {question} Раньше: {earlier}", contains="вода")
    assert (await model.answer(PROMPT, Heard())).text == "Да, Есть вода? Раньше: 0"
    assert "по сценарию" in (await model.answer(PROMPT, Heard())).text
    await simulator.script(reply="всегда", regex="^Есть", count=0)
    for _ in range(2):
        assert (await model.answer(PROMPT, Heard())).text == "всегда"
    await simulator.ask("DELETE", "/scripts")
    assert (await simulator.ask("POST", "/scripts", {"regex": "("}))[0] == 400


async def test_a_long_answer_is_cut_off_at_the_limit(model: OpenAIModel) -> None:
    answer = await model.answer(replace(PROMPT, max_output_tokens=10), Heard())
    assert answer.finish is Finish.LENGTH
    assert answer.usage.output_tokens <= 10
    assert answer.text


async def test_refusal_filter_and_emptiness_are_told_apart(simulator: Simulator, model: OpenAIModel) -> None:
    await simulator.script(refusal="I will not.")
    answer = await model.answer(PROMPT, Heard())
    assert (answer.finish, answer.text) == (Finish.REFUSED, "I will not.")
    await simulator.script(incomplete="content_filter")
    answer = await model.answer(PROMPT, Heard())
    assert (answer.finish, answer.text) == (Finish.REFUSED, "")
    await simulator.script(incomplete="max_output_tokens")
    answer = await model.answer(PROMPT, Heard())
    assert (answer.finish, answer.text) == (Finish.LENGTH, "")
    await simulator.script(reply="")
    answer = await model.answer(PROMPT, Heard())
    assert (answer.finish, answer.text) == (Finish.COMPLETE, "")


@pytest.mark.parametrize(
    ("status", "code", "kind", "reason", "wait"),
    [
        (429, "", FailureKind.RETRYABLE, "MODEL_UNAVAILABLE", 7.0),
        (500, "", FailureKind.RETRYABLE, "MODEL_UNAVAILABLE", 7.0),
        (503, "", FailureKind.RETRYABLE, "MODEL_UNAVAILABLE", 7.0),
        (408, "", FailureKind.RETRYABLE, "MODEL_UNAVAILABLE", 7.0),
        (401, "invalid_api_key", FailureKind.FATAL, "MODEL_REJECTED", None),
        (403, "", FailureKind.FATAL, "MODEL_REJECTED", None),
        (429, "insufficient_quota", FailureKind.FATAL, "MODEL_REJECTED", None),
        (400, "context_length_exceeded", FailureKind.TERMINAL, "MODEL_REJECTED", None),
        (404, "model_not_found", FailureKind.TERMINAL, "MODEL_REJECTED", None),
        (422, "", FailureKind.TERMINAL, "MODEL_REJECTED", None),
    ],
)
async def test_statuses_are_classified(
    simulator: Simulator,
    model: OpenAIModel,
    status: int,
    code: str,
    kind: FailureKind,
    reason: str,
    wait: float | None,
) -> None:
    await simulator.fault("openai", "status", status=status, code=code, retry_after=7)
    failure = await failure_of(model)
    assert (failure.kind, failure.reason, failure.retry_after) == (kind, reason, wait)
    assert str(status) in str(failure)
    assert "вода" not in str(failure)
    assert len(await simulator.calls()) == 1, "the driver retries"


async def test_a_hanging_endpoint_times_out(simulator: Simulator, model: OpenAIModel) -> None:
    await simulator.fault("openai", "hang")
    failure = await failure_of(model, replace(PROMPT, timeout=0.2))
    assert (failure.kind, failure.reason) == (FailureKind.RETRYABLE, "MODEL_TIMEOUT")


async def test_a_stream_that_is_too_slow_times_out(simulator: Simulator, model: OpenAIModel) -> None:
    await simulator.script(reply="one two three four five six", seconds_per_piece=0.15)
    failure = await failure_of(model, replace(PROMPT, timeout=0.4))
    assert failure.reason == "MODEL_TIMEOUT"


@pytest.mark.parametrize("kind", ["refuse", "drop_after"])
async def test_a_broken_connection_may_pass(simulator: Simulator, model: OpenAIModel, kind: str) -> None:
    await simulator.fault("openai", kind)
    failure = await failure_of(model)
    assert (failure.kind, failure.reason) == (FailureKind.RETRYABLE, "MODEL_UNAVAILABLE")
    assert (await model.answer(PROMPT, Heard())).text


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SMTP is spoken here\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\nno length\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 99\r\n\r\ndata: {}\n\n",
    ],
)
async def test_an_endpoint_that_answers_no_http_or_half_of_it_may_come_back(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
    made = await open_model(base_url=url, api_key="key", default_model="m")
    with pytest.raises(DecisionError) as caught:
        await made.answer(PROMPT, Heard())
    await made.close()
    listening.close()
    assert (caught.value.kind, caught.value.reason) == (FailureKind.RETRYABLE, "MODEL_UNAVAILABLE")


async def test_an_endpoint_that_is_not_there_may_come_back() -> None:
    made = await open_model(base_url="http://127.0.0.1:9/v1", api_key="key", default_model="m")
    with pytest.raises(DecisionError) as caught:
        await made.answer(PROMPT, Heard())
    await made.close()
    assert (caught.value.kind, caught.value.reason) == (FailureKind.RETRYABLE, "MODEL_UNAVAILABLE")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("server_error", FailureKind.RETRYABLE),
        ("rate_limit_exceeded", FailureKind.RETRYABLE),
        ("invalid_prompt", FailureKind.TERMINAL),
    ],
)
async def test_errors_in_the_middle_of_a_stream_are_classified(
    simulator: Simulator, model: OpenAIModel, code: str, kind: FailureKind
) -> None:
    await simulator.script(error_code=code)
    assert (await failure_of(model)).kind is kind


async def test_a_call_without_a_key_or_with_a_wrong_one_is_fatal(simulator: Simulator, model: OpenAIModel) -> None:
    await simulator.ask("PUT", "/tokens", {"provider": "openai", "tokens": ["other"]})
    assert (await failure_of(model)).kind is FailureKind.FATAL


async def test_cancelling_a_call_closes_it(simulator: Simulator, model: OpenAIModel) -> None:
    await simulator.fault("openai", "hang")
    task = asyncio.create_task(model.answer(PROMPT, Heard()))
    assert await simulator.calls(provider="openai", wait=30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_call_has_a_span_by_the_conventions(
    simulator: Simulator, model: OpenAIModel, spans: InMemorySpanExporter
) -> None:
    answer = await model.answer(PROMPT, Heard())
    [span] = spans.get_finished_spans()
    attributes = dict(span.attributes or {})
    assert (span.name, span.kind, span.status.status_code) == ("chat scripted", SpanKind.CLIENT, StatusCode.UNSET)
    assert attributes["gen_ai.operation.name"] == "chat"
    assert attributes["gen_ai.provider.name"] == "openai"
    assert attributes["gen_ai.request.model"] == "scripted"
    assert attributes["gen_ai.usage.input_tokens"] == answer.usage.input_tokens
    assert attributes["gen_ai.usage.output_tokens"] == answer.usage.output_tokens
    assert attributes["gen_ai.conversation.id"] == "thread-1"
    assert attributes["server.port"] == int(simulator.url.rsplit(":", 1)[1])
    assert not any("вода" in str(value) for value in attributes.values())


async def test_a_failed_call_has_an_error_span(
    simulator: Simulator, model: OpenAIModel, spans: InMemorySpanExporter
) -> None:
    await simulator.fault("openai", "status", status=503)
    await failure_of(model)
    [span] = spans.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert dict(span.attributes or {})["error.type"] == "InternalServerError"
    assert span.events == ()


async def test_an_unsampled_call_records_nothing(model: OpenAIModel) -> None:
    with trace.use_span(trace.INVALID_SPAN):
        assert (await model.answer(PROMPT, Heard())).text


@pytest.mark.parametrize("on", [False, True])
async def test_ops_5_spans_of_a_model_hold_text_only_when_switched_on(
    simulator: Simulator, spans: InMemorySpanExporter, on: bool
) -> None:
    base_url = f"{simulator.url}/openai/v1"
    made = await open_model(base_url=base_url, api_key="key", default_model="scripted", prices=PRICES, show_text=on)
    answer = await made.answer(PROMPT, Heard())
    await made.close()
    [span] = spans.get_finished_spans()
    attributes = dict(span.attributes or {})
    for name, text in (("input", "Есть вода?"), ("output", answer.text)):
        assert (text in str(attributes.get(f"gen_ai.{name}.messages"))) == on
    assert (PROMPT.messages[0].text in str(attributes)) == on
