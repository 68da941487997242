"""Failures become statuses that say enough and not too much."""

import asyncpg
import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, QuotaFailure, RetryInfo
from redis.exceptions import BusyLoadingError
from redis.exceptions import ConnectionError as RedisConnectionError

from parley_client.errors import CallError, from_status
from services.kernel.errors import FieldViolation, Kind, ParleyError, invalid_field
from services.runtime.errors import status_code, to_parley_error, to_status


def test_every_kind_has_a_status_code() -> None:
    assert {kind: status_code(kind).name for kind in Kind} == {kind: kind.value for kind in Kind}


def test_a_status_carries_reason_fields_quota_and_the_time_to_come_back() -> None:
    error = ParleyError(
        Kind.EXHAUSTED,
        "LIMIT_EXCEEDED",
        "30 a day are used up.",
        (FieldViolation("amount", "too much"),),
        {"rule_id": "daily-quota", "remaining": "0"},
        retry_after=1.5,
    )
    status = to_status(error)
    info, bad, quota, retry = ErrorInfo(), BadRequest(), QuotaFailure(), RetryInfo()
    for detail, packed in zip((info, bad, quota, retry), status.details, strict=True):
        assert packed.Unpack(detail)
    assert (info.reason, info.domain, dict(info.metadata)) == ("LIMIT_EXCEEDED", "parley", error.metadata)
    assert bad.field_violations[0].field == "amount"
    assert quota.violations[0].subject == "daily-quota"
    assert retry.retry_delay.ToMilliseconds() == 1500


def test_a_client_reads_back_what_the_service_said() -> None:
    read = from_status(to_status(invalid_field("sender.name", "is too long")))
    assert (read.code, read.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert read.fields == (("sender.name", "is too long"),)


@pytest.mark.parametrize(
    ("error", "store"),
    [
        (asyncpg.ConnectionDoesNotExistError("x"), "postgres"),
        (asyncpg.CannotConnectNowError("starting up"), "postgres"),
        (asyncpg.AdminShutdownError("terminated"), "postgres"),
        (asyncpg.TooManyConnectionsError("too many"), "postgres"),
        (asyncpg.InterfaceError("connection is closed"), "postgres"),
        (asyncpg.InternalClientError("another operation is in progress"), "postgres"),
        (RedisConnectionError("refused"), "redis"),
        (BusyLoadingError("loading"), "redis"),
        (TimeoutError(), None),
        (asyncpg.UniqueViolationError("phone +996555"), None),
        (ConnectionRefusedError("someone else's"), None),
    ],
)
def test_a_store_that_is_away_is_unavailable_and_all_else_is_ours(error: Exception, store: str | None) -> None:
    seen = to_parley_error(error)
    if store is None:
        assert (seen.kind, seen.reason, dict(seen.metadata)) == (Kind.INTERNAL, "INTERNAL", {})
    else:
        assert (seen.kind, seen.reason, seen.metadata) == (
            Kind.UNAVAILABLE,
            "STORAGE_UNAVAILABLE",
            {"store": store},
        )
    assert str(error) not in seen.message or not str(error)


async def test_a_socket_that_is_not_there_counts_as_postgres_away() -> None:
    with pytest.raises(OSError, match="No such file") as caught:
        await asyncpg.connect("postgresql://postgres@/parley?host=/nowhere", timeout=30)
    assert to_parley_error(caught.value).metadata == {"store": "postgres"}


def test_another_services_absence_is_passed_on_and_its_refusals_are_ours() -> None:
    away = CallError(grpc.StatusCode.UNAVAILABLE, "away", reason="STORAGE_UNAVAILABLE", metadata={"store": "redis"})
    assert to_parley_error(away).reason == "STORAGE_UNAVAILABLE"
    assert to_parley_error(CallError(grpc.StatusCode.DEADLINE_EXCEEDED, "late")).reason == "DEADLINE_EXCEEDED"
    assert to_parley_error(CallError(grpc.StatusCode.NOT_FOUND, "no bot")).reason == "INTERNAL"
