"""The blocking client, on a channel of `grpc_testing` whose other end the tests play."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import Any

import grpc
import grpc_testing
import pytest

from parley.delivery.v1 import channel_pb2
from parley.limits.v1 import limits_pb2

from parley_client import ChannelClient, LimitsClient, errors
from parley_client.blocking import BlockingConnection
from parley_client.calls import DEADLINE
from tests.unit.parley_client.conftest import refusal

LIMITS = limits_pb2.DESCRIPTOR.services_by_name["LimitsService"]
CHANNELS = channel_pb2.DESCRIPTOR.services_by_name["ChannelService"]
CHECK = limits_pb2.CheckRequest(tenant_id="demo", resource="model.turn")
OK = ((), grpc.StatusCode.OK, "")


@pytest.fixture
def channel() -> Any:
    return grpc_testing.channel([LIMITS, CHANNELS], grpc_testing.strict_real_time())


@pytest.fixture
def caller() -> Iterator[ThreadPoolExecutor]:
    """The thread that is blocked while a test plays the service."""
    with ThreadPoolExecutor(1) as thread:
        yield thread


def test_a_call_returns_the_services_answer_and_carries_its_token(channel: Any, caller: ThreadPoolExecutor) -> None:
    limits = LimitsClient(BlockingConnection(channel, "limits", "the-token"))
    answer = caller.submit(limits.check, CHECK)
    metadata, request, rpc = channel.take_unary_unary(LIMITS.methods_by_name["Check"])
    rpc.terminate(limits_pb2.CheckResponse(allowed=True), *OK)
    assert answer.result(30).allowed
    assert request == CHECK
    assert ("authorization", "Bearer the-token") in metadata


def test_every_call_asks_for_the_current_token(channel: Any, caller: ThreadPoolExecutor) -> None:
    tokens = iter(("first", "second"))
    limits = LimitsClient(BlockingConnection(channel, "limits", lambda: next(tokens)))
    for expected in ("first", "second"):
        answer = caller.submit(limits.check, CHECK)
        metadata, _, rpc = channel.take_unary_unary(LIMITS.methods_by_name["Check"])
        rpc.terminate(limits_pb2.CheckResponse(), *OK)
        answer.result(30)
        assert ("authorization", f"Bearer {expected}") in metadata


def test_a_method_that_the_other_client_gathers_is_called_as_itself(channel: Any, caller: ThreadPoolExecutor) -> None:
    limits = LimitsClient(BlockingConnection(channel, "limits", "token"))
    answer = caller.submit(limits.reserve, limits_pb2.ReserveRequest(request_id="r"))
    _, request, rpc = channel.take_unary_unary(LIMITS.methods_by_name["Reserve"])
    rpc.terminate(limits_pb2.ReserveResponse(reservation_id=request.request_id), *OK)
    assert answer.result(30).reservation_id == "r"


def test_a_failure_is_the_same_exception_with_all_its_details(channel: Any, caller: ThreadPoolExecutor) -> None:
    limits = LimitsClient(BlockingConnection(channel, "limits", "token"))
    answer = caller.submit(limits.check, CHECK)
    *_, rpc = channel.take_unary_unary(LIMITS.methods_by_name["Check"])
    status = refusal()
    details = (("grpc-status-details-bin", status.SerializeToString()),)
    rpc.terminate(None, details, grpc.StatusCode.RESOURCE_EXHAUSTED, status.message)
    with pytest.raises(errors.ResourceExhausted) as caught:
        answer.result(30)
    error = caught.value
    assert (error.reason, error.message) == ("LIMIT_EXCEEDED", "Too many turns today.")
    assert (error.fields, error.metadata) == ((("units", "is too much"),), {"rule_id": "daily-quota"})
    assert error.retry_after == 1.5


def test_a_service_that_is_away_is_named(channel: Any, caller: ThreadPoolExecutor) -> None:
    limits = LimitsClient(BlockingConnection(channel, "limits", "token"))
    answer = caller.submit(limits.check, CHECK)
    *_, rpc = channel.take_unary_unary(LIMITS.methods_by_name["Check"])
    rpc.terminate(None, (), grpc.StatusCode.UNAVAILABLE, "connections to 127.0.0.1:50053 failed")
    with pytest.raises(errors.Unavailable, match="limits is not answering"):
        answer.result(30)


def test_no_call_is_made_when_the_time_is_up(channel: Any) -> None:
    limits = LimitsClient(BlockingConnection(channel, "limits", "token"))
    token = DEADLINE.set(monotonic() - 0.001)
    try:
        with pytest.raises(errors.DeadlineExceeded):
            limits.check(CHECK)
    finally:
        DEADLINE.reset(token)


def test_a_stream_is_an_iterator_that_ends_or_fails_with_the_call(channel: Any, caller: ThreadPoolExecutor) -> None:
    channels = ChannelClient(BlockingConnection(channel, "delivery", "token"))
    seen: list[channel_pb2.WatchChannelsResponse] = []

    def watch() -> None:
        seen.extend(channels.watch_channels(channel_pb2.WatchChannelsRequest()))

    ended: Future[None] = caller.submit(watch)
    *_, rpc = channel.take_unary_stream(CHANNELS.methods_by_name["WatchChannels"])
    for _ in range(2):
        rpc.send_response(channel_pb2.WatchChannelsResponse())
    rpc.terminate(*OK)
    ended.result(30)
    assert len(seen) == 2

    failed: Future[None] = caller.submit(watch)
    *_, rpc = channel.take_unary_stream(CHANNELS.methods_by_name["WatchChannels"])
    rpc.terminate((), grpc.StatusCode.PERMISSION_DENIED, "not yours")
    with pytest.raises(errors.PermissionDenied, match="not yours"):
        failed.result(30)


def test_leaving_a_stream_cancels_the_call(channel: Any, caller: ThreadPoolExecutor) -> None:
    channels = ChannelClient(BlockingConnection(channel, "delivery", "token"))

    def watch_one() -> None:
        for _ in channels.watch_channels(channel_pb2.WatchChannelsRequest()):
            break

    ended = caller.submit(watch_one)
    *_, rpc = channel.take_unary_stream(CHANNELS.methods_by_name["WatchChannels"])
    rpc.send_response(channel_pb2.WatchChannelsResponse())
    ended.result(30)
    rpc.cancelled()  # returns when it is
