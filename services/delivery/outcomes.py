"""Tells dialog what became of its replies, until dialog has acknowledged it.

Outcomes go from memory to dialog in batches, and then their rows are deleted. An outcome that gets lost on the way,
because the process died or dialog was away, is still in the table and is taken from there.
"""

import asyncio
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import timedelta

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from parley.dialog.v1 import dialog_pb2

from parley_client.dialog import DialogClient
from parley_client.errors import CallError, from_status
from services.delivery.usecases.ports import OutcomeStore, Said
from services.runtime.background import periodic
from services.runtime.crashpoints import reach
from services.runtime.logs import describe, get_logger

log = get_logger(__name__)

BATCH = 256
AT_MOST = 20_000
"""Outcomes kept in memory; what is beyond waits in the table."""
_FINAL = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ALREADY_EXISTS,
}
"""Dialog's answers that no repeat would change: it does not know the message any more."""
_AWAY = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
"""Its answers that do not blame the outcome. Any other answer is a fault that may lie in the outcome."""
TRIES = 50
"""Faults after which an outcome is given up: nearly two days."""


class OutcomeReporter:
    """`said` takes in outcomes that are stored; `run` tells them. Times are in seconds."""

    def __init__(
        self,
        client: DialogClient,
        store: OutcomeStore,
        *,
        gather: float = 0.2,
        sweep: float = 2.0,
        age: float = 5.0,
        timeout: float = 5.0,
    ) -> None:
        """`gather`: what comes within it goes out together, as nobody waits for it. `age`: what has waited for longer
        is taken from the table, which is looked at every `sweep`.
        """
        self._client = client
        self._store = store
        self._gather, self._sweep, self._age, self._timeout = gather, sweep, age, timeout
        self._waiting: deque[Said] = deque()
        self._woken = asyncio.Event()

    def said(self, outcomes: Sequence[Said]) -> None:
        """Takes in outcomes that are committed."""
        if len(self._waiting) < AT_MOST:
            self._waiting.extend(outcomes)
            self._woken.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Tells until `stop` is set, then tells what is in memory."""
        stopping = asyncio.create_task(stop.wait())
        sweeping = asyncio.ensure_future(periodic("outcomes", self._sweep_table, every=self._sweep)(stop))
        try:
            while not stop.is_set():
                woken = asyncio.create_task(self._woken.wait())
                await asyncio.wait({woken, stopping}, return_when=asyncio.FIRST_COMPLETED)
                woken.cancel()
                if self._gather and not stop.is_set():
                    await asyncio.sleep(self._gather)
                await self._tell_waiting()
        finally:
            stopping.cancel()
            sweeping.cancel()
            with suppress(asyncio.CancelledError):
                await sweeping

    async def _tell_waiting(self) -> None:
        self._woken.clear()
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            if not await self._tell(batch):
                self._waiting.clear()  # they are in the table; dialog is away, and memory is dear

    async def _sweep_table(self) -> None:
        while batch := await self._store.older(timedelta(seconds=self._age), BATCH):
            if not await self._tell(batch) or len(batch) < BATCH:
                break

    async def _tell(self, batch: Sequence[Said]) -> bool:
        """False when dialog or the store is away."""
        reach("delivery.before_telling")
        try:
            response = await self._client.batch_record_outcome(_request(batch), timeout=self._timeout)
            done, refused, away = [], [], False
            for said, result in zip(batch, response.results, strict=True):
                error = from_status(result.error) if result.HasField("error") else None
                if error is None or error.code in _FINAL:
                    done.append(said.outcome_id)
                elif error.code not in _AWAY:
                    refused.append(said.outcome_id)
                if error is not None:
                    away = away or error.code in _AWAY
                    log.warning(
                        "dialog refused an outcome",
                        delivery_id=str(said.outcome.delivery_id),
                        code=error.code.name,
                        reason=error.reason,
                    )
            reach("delivery.after_told")
            if refused:
                done += await self._given_up(refused)
            if done:
                await self._store.forget(done)
            return not away
        except CallError as error:
            log.warning("dialog cannot be told of outcomes", code=error.code.name, outcomes=len(batch))
        except Exception as error:
            log.warning("outcomes cannot be forgotten", error=describe(error), outcomes=len(batch))
        return False

    async def _given_up(self, refused: Sequence[int]) -> Collection[int]:
        """Those of the refused that were refused too often."""
        given_up = await self._store.refuse(refused, TRIES)
        if given_up:
            log.error("dialog refuses outcomes for good; they are given up", outcomes=len(given_up), alert=True)
        return given_up


def _request(batch: Sequence[Said]) -> dialog_pb2.BatchRecordOutcomeRequest:
    request = dialog_pb2.BatchRecordOutcomeRequest()
    for said in batch:
        outcome = said.outcome
        item = request.items.add()
        item.context.traceparent = outcome.traceparent
        item.context.tracestate = outcome.tracestate
        at = Timestamp()
        at.FromDatetime(outcome.at)
        item.request.CopyFrom(
            dialog_pb2.RecordOutcomeRequest(
                tenant_id=outcome.tenant_id,
                message_id=str(outcome.message_id or ""),
                delivery_id=str(outcome.delivery_id),
                reply_index=outcome.reply_index,
                state=dialog_pb2.ReplyState.ValueType(outcome.state),
                at=at,
                error=outcome.error,
            )
        )
    return request
