import asyncio
import socket
from contextlib import aclosing
from time import monotonic

import grpc
import pytest

from parley.delivery.v1 import channel_pb2
from parley.limits.v1 import limits_pb2

from parley_client import errors
from parley_client.calls import DEADLINE
from parley_client.channel import Connection, connect
from parley_client.delivery import ChannelClient
from parley_client.limits import LimitsClient
from parley_client.tokens import StaticToken
from tests.unit.parley_client.conftest import Context, ScriptedChannels, ScriptedLimits, serve, until

CHECK = limits_pb2.CheckRequest(tenant_id="demo", resource="model.turn")


def reserve(request_id: str, *, resource: str = "model.turn", units: int = 0) -> limits_pb2.ReserveRequest:
    return limits_pb2.ReserveRequest(tenant_id="demo", request_id=request_id, resource=resource, units=units)


async def test_a_call_carries_its_token_and_its_deadline(connection: Connection, limits: ScriptedLimits) -> None:
    assert (await LimitsClient(connection).check(CHECK, timeout=60.0)).allowed
    assert limits.metadata[0]["authorization"] == "Bearer the-token"
    assert 30.0 < limits.remaining[0] < 61.0  # the wire rounds a timeout up, by a hundredth at most


async def test_an_incoming_deadline_bounds_the_calls_below_it(connection: Connection, limits: ScriptedLimits) -> None:
    token = DEADLINE.set(monotonic() + 20.0)
    try:
        await LimitsClient(connection).check(CHECK, timeout=90.0)
        await LimitsClient(connection).reserve(reserve("r"), timeout=90.0)
    finally:
        DEADLINE.reset(token)
    assert len(limits.remaining) == 2
    assert all(0 < remaining < 21.0 for remaining in limits.remaining)  # rounded up on the wire


async def test_no_call_is_made_when_the_time_is_up(connection: Connection, limits: ScriptedLimits) -> None:
    token = DEADLINE.set(monotonic() - 0.001)
    try:
        for call in (LimitsClient(connection).check(CHECK), LimitsClient(connection).reserve(reserve("r"))):
            with pytest.raises(errors.DeadlineExceeded):
                await call
    finally:
        DEADLINE.reset(token)
    assert not limits.metadata


async def test_a_failure_comes_with_all_its_details(connection: Connection, limits: ScriptedLimits) -> None:
    limits.behave = limits.refuse
    with pytest.raises(errors.ResourceExhausted) as caught:
        await LimitsClient(connection).check(CHECK)
    error = caught.value
    assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.reason == "LIMIT_EXCEEDED"
    assert error.message == "Too many turns today."
    assert error.fields == (("units", "is too much"),)
    assert error.metadata == {"rule_id": "daily-quota"}
    assert error.retry_after == 1.5


async def test_a_call_that_takes_too_long_ends_in_time(connection: Connection, limits: ScriptedLimits) -> None:
    limits.behave = limits.hang
    started = monotonic()
    with pytest.raises(errors.DeadlineExceeded):
        await LimitsClient(connection).check(CHECK, timeout=0.05)
    assert monotonic() - started < 30, "the service hangs for a minute"


async def test_an_unavailable_service_is_asked_again(connection: Connection, limits: ScriptedLimits) -> None:
    async def once(context: Context) -> None:
        limits.behave = limits.answer
        await limits.be_away(context)

    limits.behave = once
    assert (await LimitsClient(connection).check(CHECK)).allowed
    assert len(limits.metadata) == 2


async def test_calls_of_one_moment_share_an_rpc(connection: Connection, limits: ScriptedLimits) -> None:
    client = LimitsClient(connection)
    answers = await asyncio.gather(*(client.reserve(reserve(f"r{n}")) for n in range(20)))
    assert [answer.reservation_id for answer in answers] == [f"r{n}" for n in range(20)]
    assert len(limits.batches) == 1
    assert limits.metadata[0]["authorization"] == "Bearer the-token"


async def test_an_item_that_fails_fails_alone(connection: Connection) -> None:
    client = LimitsClient(connection)
    good, bad = await asyncio.gather(
        client.reserve(reserve("good")), client.reserve(reserve("bad", resource="refused")), return_exceptions=True
    )
    assert isinstance(good, limits_pb2.ReserveResponse)
    assert isinstance(bad, errors.ResourceExhausted)
    assert bad.reason == "LIMIT_EXCEEDED"


async def test_a_failed_batch_fails_each_of_its_items(connection: Connection, limits: ScriptedLimits) -> None:
    limits.behave = limits.refuse
    client = LimitsClient(connection)
    results = await asyncio.gather(*(client.reserve(reserve(f"r{n}")) for n in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [errors.ResourceExhausted] * 3
    assert len(limits.batches) == 1, "a refusal of the service is not tried again"


async def test_a_batch_that_meets_a_fault_is_repeated_item_by_item(
    connection: Connection, limits: ScriptedLimits
) -> None:
    async def stumble(context: Context) -> None:
        items = limits.batches[-1].items
        if any(item.request.request_id == "poison" for item in items):
            await context.abort(grpc.StatusCode.INTERNAL, "a fault")

    limits.behave = stumble
    client = LimitsClient(connection)
    calls = [client.reserve(reserve(name)) for name in ("r1", "poison", "r2")]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [
        limits_pb2.ReserveResponse,
        errors.Internal,
        limits_pb2.ReserveResponse,
    ]
    assert [len(batch.items) for batch in limits.batches] == [3, 1, 1, 1]


async def test_a_batch_too_large_for_one_message_goes_in_parts(connection: Connection, limits: ScriptedLimits) -> None:
    client = LimitsClient(connection)
    answers = await asyncio.gather(*(client.reserve(reserve(f"r{n}", units=1_000_000)) for n in range(16)))
    assert [len(answer.reservation_id) > 1_000_000 for answer in answers] == [True] * 16
    assert len(limits.batches) > 1


async def test_a_batch_runs_until_its_latest_deadline_and_names_earlier_ones(
    connection: Connection, limits: ScriptedLimits
) -> None:
    client = LimitsClient(connection)
    await asyncio.gather(client.reserve(reserve("short"), timeout=20.0), client.reserve(reserve("long"), timeout=80.0))
    assert 50.0 < limits.remaining[0] < 81.0  # rounded up on the wire
    short, long = limits.batches[0].items
    assert 10.0 < short.context.timeout.seconds + short.context.timeout.nanos / 1e9 <= 20.0
    assert not long.HasField("context")


async def test_each_item_ends_at_its_own_deadline(connection: Connection, limits: ScriptedLimits) -> None:
    limits.behave = limits.hang
    client = LimitsClient(connection)
    long = asyncio.ensure_future(client.reserve(reserve("long"), timeout=60.0))
    started = monotonic()
    with pytest.raises(errors.DeadlineExceeded) as caught:
        await client.reserve(reserve("short"), timeout=0.05)
    assert caught.value.reason == "DEADLINE_EXCEEDED"
    assert monotonic() - started < 30, "the batch has a minute"
    assert not long.done()
    long.cancel()


async def test_a_caller_that_goes_away_does_not_cancel_the_others(
    connection: Connection, limits: ScriptedLimits
) -> None:
    reached = asyncio.Event()
    go_on = asyncio.Event()

    async def wait(context: Context) -> None:
        reached.set()
        await go_on.wait()

    limits.behave = wait
    client = LimitsClient(connection)
    leaver, stayer = (asyncio.ensure_future(client.reserve(reserve(name))) for name in ("leaver", "stayer"))
    await asyncio.wait_for(reached.wait(), 30)
    leaver.cancel()
    go_on.set()
    assert (await stayer).reservation_id == "stayer"
    assert leaver.cancelled()


async def test_leaving_a_stream_ends_the_call(connection: Connection, channels: ScriptedChannels) -> None:
    seen = 0
    async with aclosing(ChannelClient(connection).watch_channels(channel_pb2.WatchChannelsRequest())) as stream:
        async for _ in stream:
            seen += 1
            if seen == 2:
                break
    await asyncio.wait_for(channels.left.wait(), 30)


async def test_a_stream_ends_in_time_when_it_has_one(connection: Connection) -> None:
    stream = ChannelClient(connection).watch_channels(channel_pb2.WatchChannelsRequest(), timeout=0.1)
    with pytest.raises(errors.DeadlineExceeded):
        async for _ in stream:
            pass


async def test_a_server_that_starts_again_is_found_within_a_moment(limits: ScriptedLimits) -> None:
    with socket.socket() as kept:
        # Bound for as long as the test runs, so that nobody else gets the port between the two servers.
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind(("127.0.0.1", 0))
        await found_again(limits, kept.getsockname()[1])


async def found_again(limits: ScriptedLimits, port: int) -> None:
    server, _ = await serve(limits, ScriptedChannels(), port)
    async with connect(f"127.0.0.1:{port}", audience="limits", tokens=StaticToken("t")) as connection:
        client = LimitsClient(connection)
        await client.check(CHECK)
        await server.stop(None)
        with pytest.raises(errors.Unavailable):
            await client.check(CHECK)
        server, _ = await serve(limits, ScriptedChannels(), port)
        started = monotonic()
        while True:
            try:
                await client.check(CHECK)
                break
            except errors.Unavailable:
                assert monotonic() - started < 30, "without a bound of its own the pause would grow to two minutes"
    await server.stop(None)


async def test_closing_a_connection_ends_what_is_under_way(connection: Connection, limits: ScriptedLimits) -> None:
    limits.behave = limits.hang
    call = asyncio.ensure_future(LimitsClient(connection).reserve(reserve("r")))
    await until(lambda: bool(limits.batches))
    await connection.close()
    with pytest.raises((errors.CallError, asyncio.CancelledError)):
        await call
