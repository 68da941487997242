"""What a reply waits for, as operators are told. OPS-1."""

from parley.common.v1 import waiting_pb2
from parley.delivery.v1 import channel_pb2, delivery_pb2

from tests.integration.delivery.conftest import (
    CHANNEL,
    PENDING,
    SENT,
    TENANT,
    Delivery,
    World,
    granted,
    message,
    until,
)


async def reason(delivery: Delivery, delivery_id: str) -> str:
    waiting = (await delivery.get(delivery_id)).waiting
    return waiting_pb2.WaitReason.Name(waiting.reason).removeprefix("WAIT_REASON_")


async def waits_for(delivery: Delivery, delivery_id: str, wanted: str) -> None:
    async def there() -> bool:
        return await reason(delivery, delivery_id) == wanted

    await until(there)


async def test_a_reply_waits_for_its_channel_and_those_after_it_too(delivery: Delivery) -> None:
    operator = delivery.as_("operator")[1]
    await operator.disable_channel(
        channel_pb2.DisableChannelRequest(tenant_id=TENANT, channel_id=CHANNEL, request_id="disable")
    )
    first = await delivery.client.send_message(message("one"))
    second = await delivery.client.send_message(message("two"))
    await waits_for(delivery, first.delivery_id, "CHANNEL_DISABLED")
    await waits_for(delivery, second.delivery_id, "CHANNEL_DISABLED")
    request = delivery_pb2.ListDeliveriesRequest(tenant_id=TENANT, part_state=PENDING)
    listed = (await delivery.as_("operator")[0].list_deliveries(request)).deliveries
    assert [each.waiting.ahead for each in listed] == [1, 0]
    await operator.enable_channel(
        channel_pb2.EnableChannelRequest(tenant_id=TENANT, channel_id=CHANNEL, request_id="enable")
    )
    sent = await delivery.until_state(second.delivery_id, SENT)
    assert not sent.HasField("waiting")


async def test_a_reply_waits_for_its_next_try_with_the_last_error(world: World) -> None:
    world.receiver.fail(500, times=100)
    async with world.serving(delivery_first_delay_seconds=100.0) as delivery:
        await delivery.create_channel()
        failed = await delivery.client.send_message(message("one"))
        await waits_for(delivery, failed.delivery_id, "RETRY")
        assert (await delivery.get(failed.delivery_id)).waiting.detail
        behind = await delivery.client.send_message(message("two"))
        await waits_for(delivery, behind.delivery_id, "BEHIND")


async def test_a_reply_waits_for_the_providers_rate(delivery: Delivery, world: World) -> None:
    world.limits.reply = lambda _: granted(50.0)
    answer = await delivery.client.send_message(message("one"))
    await waits_for(delivery, answer.delivery_id, "RATE")
    until_then = (await delivery.get(answer.delivery_id)).waiting
    assert until_then.HasField("until")


async def test_a_reply_waits_for_a_provider_that_fails(world: World) -> None:
    world.receiver.fail(503, times=100)
    async with world.serving(delivery_breaker_failures=1, delivery_breaker_seconds=50.0) as delivery:
        await delivery.create_channel()
        answer = await delivery.client.send_message(message("one"))
        await waits_for(delivery, answer.delivery_id, "BREAKER")
