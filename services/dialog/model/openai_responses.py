"""Any OpenAI-compatible endpoint, through the official client's Responses API."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Literal
from urllib.parse import urlsplit

import aiohttp
import httpx2
import openai
from openai.types.responses import EasyInputMessageParam, ResponseInputItemParam
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from services.dialog.domain.failures import DecisionError, FailureKind
from services.dialog.domain.flows import Usage
from services.dialog.model import (
    Finish,
    ModelAnswer,
    OnDelta,
    Price,
    Prompt,
    Said,
)
from services.dialog.model.events import ModelResponse, TokenUsage, read_response
from services.dialog.model.failures import classify, of_code
from services.dialog.model.prices import price_micros

CONNECT_SECONDS = 5.0
CONNECTIONS = 256
"""Calls under way at once at most; further ones wait for their turn."""
LONGEST_SHOWN = 8_000
"""Characters of messages in one attribute of a span."""
_LAST = frozenset({"response.completed", "response.incomplete", "response.failed"})
_tracer = trace.get_tracer("parley.dialog")


class OpenAIModel:
    """Streams answers. Never retries: that is the turn's business."""

    def __init__(
        self, base_url: str, api_key: str, default_model: str, prices: Mapping[str, Price], *, show_text: bool = False
    ) -> None:
        """`show_text`: whether spans may hold what is said."""
        self._show_text = show_text
        self._default_model = default_model
        self._prices = prices
        self._server = urlsplit(base_url)
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            # The client insists on a key; an endpoint of one's own may want none, and OpenAI's answers 401 to this one.
            api_key=api_key or "none",
            max_retries=0,
            # A turn of twenty deltas costs two thirds of what it does over httpx2's own transport.
            http_client=openai.DefaultAioHttpClient(limits=httpx2.Limits(max_connections=CONNECTIONS)),
        )
        self._create = self._client.responses.with_raw_response.create  # loads what the first call would wait for

    async def answer(self, prompt: Prompt, on_delta: OnDelta) -> ModelAnswer:
        """One call within `prompt.timeout` seconds. Raises DecisionError."""
        model = prompt.model or self._default_model
        with _tracer.start_as_current_span(
            f"chat {model}", kind=SpanKind.CLIENT, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                async with asyncio.timeout(prompt.timeout):
                    answer = self._read(await self._stream(model, prompt, on_delta), model)
            except (TimeoutError, openai.OpenAIError, httpx2.HTTPError, aiohttp.ClientError, ValueError) as error:
                failure = classify(error)
                self._record(span, model, prompt, failure=failure, error=error)
                raise failure from error
            except DecisionError as failure:
                self._record(span, model, prompt, failure=failure)
                raise
            self._record(span, model, prompt, answer=answer)
            return answer

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _stream(self, model: str, prompt: Prompt, on_delta: OnDelta) -> ModelResponse:
        """The response that the stream ends with."""
        raw = await self._create(
            model=model,
            instructions=prompt.instructions,
            input=[_message(said) for said in prompt.messages],
            max_output_tokens=prompt.max_output_tokens,
            store=False,
            stream=True,
            prompt_cache_key=prompt.thread_id or openai.omit,
            timeout=openai.Timeout(prompt.timeout, connect=min(CONNECT_SECONDS, prompt.timeout)),
        )
        stream = raw.parse(to=openai.AsyncStream[object])
        async with stream:
            async for event in stream:
                if not isinstance(event, Mapping):
                    continue
                kind = event.get("type")
                if kind == "response.output_text.delta":
                    await on_delta(str(event.get("delta", "")))
                elif kind in _LAST:
                    return read_response(event)
                elif kind == "error":
                    raise of_code(str(event.get("code") or ""))
        raise DecisionError(FailureKind.RETRYABLE, "MODEL_UNAVAILABLE", "The model's stream ended without an end.")

    def _read(self, response: ModelResponse, model: str) -> ModelAnswer:
        if response.status == "failed":
            raise of_code((response.error and response.error.code) or "")
        refusal = response.said("refusal")
        reason = response.incomplete_details.reason if response.incomplete_details else None
        finish = Finish.LENGTH if reason == "max_output_tokens" else Finish.COMPLETE
        if refusal or reason == "content_filter":
            finish = Finish.REFUSED
        return ModelAnswer(
            text=(response.said("text") or refusal).strip(),
            finish=finish,
            model=response.model,
            response_id=response.id,
            usage=self._usage(response.usage or TokenUsage(), model),
        )

    def _usage(self, usage: TokenUsage, model: str) -> Usage:
        price = price_micros(
            self._prices,
            model,
            input_tokens=usage.input_tokens,
            cached=usage.cached,
            output_tokens=usage.output_tokens,
        )
        return Usage(usage.input_tokens, usage.output_tokens, price, calls=1)

    def _record(
        self,
        span: Span,
        model: str,
        prompt: Prompt,
        *,
        answer: ModelAnswer | None = None,
        failure: DecisionError | None = None,
        error: Exception | None = None,
    ) -> None:
        """Fill the span by the conventions for generative AI; text of messages only where that is switched on."""
        if not span.is_recording():
            return
        attributes: dict[str, str | int | tuple[str, ...]] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": model,
            "gen_ai.request.max_tokens": prompt.max_output_tokens,
            "server.address": self._server.hostname or "",
            "server.port": self._server.port or (443 if self._server.scheme == "https" else 80),
        }
        if prompt.thread_id:
            attributes["gen_ai.conversation.id"] = prompt.thread_id
        if answer:
            attributes["gen_ai.response.model"] = answer.model
            attributes["gen_ai.response.id"] = answer.response_id
            attributes["gen_ai.response.finish_reasons"] = (answer.finish.value,)
            attributes["gen_ai.usage.input_tokens"] = answer.usage.input_tokens
            attributes["gen_ai.usage.output_tokens"] = answer.usage.output_tokens
        if self._show_text:
            attributes["gen_ai.input.messages"] = _shown(prompt.messages)
            if answer:
                attributes["gen_ai.output.messages"] = _shown([Said("assistant", answer.text)])
        if failure:
            attributes["error.type"] = type(error).__name__ if error else failure.reason
            attributes["parley.reason"] = failure.reason
            span.set_status(Status(StatusCode.ERROR, str(failure)))
        span.set_attributes(attributes)


def _shown(messages: Sequence[Said]) -> str:
    """Messages as spans hold them, the latest ones when they are long."""
    kept: list[dict[str, object]] = []
    left = LONGEST_SHOWN
    for said in reversed(messages):
        kept.append({"role": said.role, "parts": [{"type": "text", "content": said.text[:left]}]})
        left -= len(said.text)
        if left <= 0:
            break
    return json.dumps(kept[::-1], ensure_ascii=False)


def _message(said: Said) -> ResponseInputItemParam:
    role: Literal["assistant", "user"] = "assistant" if said.role == "assistant" else "user"
    return EasyInputMessageParam(type="message", role=role, content=said.text)
