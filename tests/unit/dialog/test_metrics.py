"""OPS-4: what dialog measures of its turns and of its model."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from parley.dialog.v1 import dialog_pb2

from services.dialog.domain.failures import DecisionError, FailureKind
from services.dialog.domain.flows import Usage
from services.dialog.domain.turns import MessageState
from services.dialog.metrics import (
    CALLS,
    DONE,
    MESSAGES,
    OLDEST,
    PRICE,
    REPLIES,
    TIMES,
    TOKENS,
    EndedTurns,
    MeasuredModel,
    QueueSize,
)
from services.dialog.model import (
    Finish,
    ModelAnswer,
    OnDelta,
    Prompt,
)
from services.runtime.metrics import Metrics

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PROMPT = Prompt("", "", [], 10, 30.0)


async def nobody(_: str) -> None: ...


class Model:
    fails = False

    async def answer(self, prompt: Prompt, on_delta: OnDelta) -> ModelAnswer:
        if self.fails:
            raise DecisionError(FailureKind.RETRYABLE, "MODEL_TIMEOUT", "no")
        return ModelAnswer("fine", Finish.COMPLETE, "m", "r", Usage(100, 20, 1_500, 1))

    async def close(self) -> None: ...


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def metrics(reader: InMemoryMetricReader) -> Metrics:
    return Metrics(MeterProvider([reader], shutdown_on_exit=False).get_meter("test"))


def readings(reader: InMemoryMetricReader) -> dict[str, dict[str, Any]]:
    """By the instrument's name and the value of its label."""
    data = reader.get_metrics_data()
    assert data is not None
    (resource,) = data.resource_metrics
    (scope,) = resource.scope_metrics
    return {
        metric.name: {
            str(next(iter((point.attributes or {}).values()), "")): getattr(point, "value", None)
            for point in metric.data.data_points
        }
        for metric in scope.metrics
    }


async def test_calls_of_models_are_counted_and_timed_and_their_tokens_and_price_added_up(
    metrics: Metrics, reader: InMemoryMetricReader
) -> None:
    times = iter((0.0, 2.0, 10.0, 13.0, 20.0, 20.5))
    endpoint = Model()
    model = MeasuredModel(endpoint, metrics, lambda: next(times))
    for _ in range(2):
        await model.answer(PROMPT, nobody)
    endpoint.fails = True
    with pytest.raises(DecisionError):
        await model.answer(PROMPT, nobody)
    found = readings(reader)
    assert found[CALLS.name] == {"ok": 2, "MODEL_TIMEOUT": 1}
    within = found[TIMES.name]
    assert (within["0.25"], within["0.5"], within["2.0"], within["3.0"], within["+Inf"]) == (0, 1, 2, 3, 3)
    assert found[TOKENS.name] == {"input": 200, "output": 40}
    assert found[PRICE.name][""] == pytest.approx(0.003)


def test_every_message_of_a_turn_is_timed_from_its_arrival(metrics: Metrics, reader: InMemoryMetricReader) -> None:
    clock: Any = SimpleNamespace(now=lambda: NOW)
    ended = EndedTurns(metrics, clock)
    messages: Any = [SimpleNamespace(received_at=NOW - timedelta(seconds=age)) for age in (4, 1, -1)]
    end: Any = SimpleNamespace(state=MessageState.COMPLETED, message_ids=[1, 2, 3])
    dead_letter: Any = SimpleNamespace(state=MessageState.TERMINAL, message_ids=[4])
    ended(end, messages)
    ended(dead_letter, [])
    found = readings(reader)
    assert found[DONE.name] == {"COMPLETED": 3, "TERMINAL": 1}
    within = found[REPLIES.name]
    assert (within["0.01"], within["1.0"], within["3.0"], within["5.0"]) == (1, 2, 2, 3)


async def test_the_queues_size_is_what_was_counted_last(metrics: Metrics, reader: InMemoryMetricReader) -> None:
    asked: list[str] = []

    async def ask(tenant_id: str) -> dialog_pb2.GetQueueStatsResponse:
        asked.append(tenant_id)
        stats = dialog_pb2.GetQueueStatsResponse(waiting=7, dead=1)
        stats.oldest_waiting.FromMilliseconds(2500)
        return stats

    QueueSize(metrics, ask)
    assert readings(reader)[MESSAGES.name] == {"waiting": 0, "failed": 0, "dead": 0, "parked": 0}
    await metrics.refresh()
    assert asked == [""]
    found = readings(reader)
    assert found[MESSAGES.name] == {"waiting": 7, "failed": 0, "dead": 1, "parked": 0}
    assert found[OLDEST.name] == {"": 2.5}
