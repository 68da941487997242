"""What both clients leave to gRPC, which is set up alike for them: repeated calls, deadlines, cancelled streams."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from parley.delivery.v1 import channel_pb2
from parley.limits.v1 import limits_pb2

from parley_client import ChannelClient, LimitsClient, blocking, connect, errors
from tests.unit.parley_client.conftest import Context, ScriptedChannels, ScriptedLimits, serve

CHECK = limits_pb2.CheckRequest(tenant_id="demo", resource="model.turn")
Check = Callable[..., Awaitable[limits_pb2.CheckResponse]]
Credentials = grpc.ChannelCredentials | None


async def by_awaiting(address: str, timeout: float, tls: Credentials = None) -> limits_pb2.CheckResponse:
    async with connect(address, audience="limits", tokens="the-token", credentials=tls) as connection:
        return await LimitsClient(connection).check(CHECK, timeout=timeout)


async def by_blocking(address: str, timeout: float, tls: Credentials = None) -> limits_pb2.CheckResponse:
    def call() -> limits_pb2.CheckResponse:
        with blocking.connect(address, audience="limits", tokens="the-token", credentials=tls) as connection:
            return LimitsClient(connection).check(CHECK, timeout=timeout)

    return await asyncio.to_thread(call)


both = pytest.mark.parametrize("check", [by_awaiting, by_blocking])


@both
async def test_a_call_carries_its_token_and_its_deadline(check: Check, address: str, limits: ScriptedLimits) -> None:
    assert (await check(address, 60.0)).allowed
    assert limits.metadata[0]["authorization"] == "Bearer the-token"
    assert 30.0 < limits.remaining[0] < 61.0  # the wire rounds a timeout up, by a hundredth at most


@both
async def test_an_unavailable_service_is_asked_again(check: Check, address: str, limits: ScriptedLimits) -> None:
    async def twice(context: Context) -> None:
        if len(limits.metadata) <= 2:
            await limits.be_away(context)

    limits.behave = twice
    assert (await check(address, 60.0)).allowed
    assert len(limits.metadata) == 3


@both
async def test_what_stays_unavailable_is_given_up(check: Check, address: str, limits: ScriptedLimits) -> None:
    limits.behave = limits.be_away
    with pytest.raises(errors.Unavailable):
        await check(address, 60.0)
    assert len(limits.metadata) == 4


@both
async def test_a_refusal_is_not_asked_again(check: Check, address: str, limits: ScriptedLimits) -> None:
    limits.behave = limits.refuse
    with pytest.raises(errors.ResourceExhausted) as caught:
        await check(address, 60.0)
    assert (caught.value.reason, caught.value.retry_after) == ("LIMIT_EXCEEDED", 1.5)
    assert len(limits.metadata) == 1


@both
async def test_a_call_that_takes_too_long_ends_in_time(check: Check, address: str, limits: ScriptedLimits) -> None:
    limits.behave = limits.hang
    async with asyncio.timeout(30):  # the service hangs for a minute
        with pytest.raises(errors.DeadlineExceeded):
            await check(address, 0.05)


def certificate() -> tuple[bytes, bytes]:
    """A key and a certificate of this machine, signed by itself."""
    key, name, now = ec.generate_private_key(ec.SECP256R1()), x509.Name([]), datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    here = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    signed = made.add_extension(here, critical=True).sign(key, hashes.SHA256())
    pem, encoding = serialization.PrivateFormat.PKCS8, serialization.Encoding.PEM
    return key.private_bytes(encoding, pem, serialization.NoEncryption()), signed.public_bytes(encoding)


@both
async def test_with_credentials_a_connection_is_encrypted(
    check: Check, limits: ScriptedLimits, channels: ScriptedChannels
) -> None:
    key, trusted = certificate()
    server, port = await serve(limits, channels, tls=grpc.ssl_server_credentials([(key, trusted)]))
    try:
        assert (await check(f"127.0.0.1:{port}", 60.0, grpc.ssl_channel_credentials(trusted))).allowed
        with pytest.raises(errors.Unavailable):
            await check(f"127.0.0.1:{port}", 60.0)
    finally:
        await server.stop(None)


async def test_leaving_a_blocking_stream_ends_the_call(address: str, channels: ScriptedChannels) -> None:
    def watch_two() -> None:
        with blocking.connect(address, audience="delivery", tokens="the-token") as connection:
            events = ChannelClient(connection).watch_channels(channel_pb2.WatchChannelsRequest())
            with closing(events):
                next(events)
                next(events)

    await asyncio.to_thread(watch_two)
    await asyncio.wait_for(channels.left.wait(), 30)
