"""A broadcast never delays a reply."""

from uuid import uuid4

import asyncpg

from parley.common.v1 import waiting_pb2
from parley.delivery.v1 import delivery_pb2
from parley.limits.v1 import limits_pb2

from tests.integration.delivery.conftest import SENT, Delivery, World, granted, message, refused, until

BROADCAST = delivery_pb2.PRIORITY_BROADCAST


def only_replies(request: limits_pb2.ReserveRequest) -> limits_pb2.ReserveResponse:
    """Limits as it answers while replies need all of a rate."""
    return refused(60.0) if request.priority == limits_pb2.PRIORITY_BROADCAST else granted(0.0)


async def test_a_broadcast_gets_a_slot_as_such_and_replies_do_not_wait_for_it(delivery: Delivery, world: World) -> None:
    world.limits.reply = only_replies
    broadcast = await delivery.client.send_message(message("news", priority=BROADCAST))
    await until(lambda: len(world.limits.asked) == 1)
    assert world.limits.asked[0].priority == limits_pb2.PRIORITY_BROADCAST
    assert not world.limits.asked[0].HasField("max_wait")
    reply = await delivery.client.send_message(message("reply", chat="other"))
    await delivery.until_state(reply.delivery_id, SENT)
    assert world.receiver.texts() == ["reply"]
    shown = await delivery.get(broadcast.delivery_id)
    assert (shown.priority, shown.parts[0].state) == (BROADCAST, delivery_pb2.PART_STATE_PENDING)
    world.limits.reply = lambda _: granted(0.0)
    free = await delivery.client.send_message(message("free", chat="third", priority=BROADCAST))
    await delivery.until_state(free.delivery_id, SENT)


async def test_a_broadcast_takes_no_slot_that_is_in_hand_for_replies(delivery: Delivery, world: World) -> None:
    for number in range(4):
        sent = await delivery.client.send_message(message(str(number), chat=uuid4().hex))
        await delivery.until_state(sent.delivery_id, SENT)
    answer = await delivery.client.send_message(message("news", priority=BROADCAST))
    await delivery.until_state(answer.delivery_id, SENT)
    priorities = [request.priority for request in world.limits.asked]
    assert priorities.count(limits_pb2.PRIORITY_BROADCAST) == 1


async def test_a_broadcast_is_claimed_after_replies_until_a_reply_waits_behind_it(
    delivery: Delivery, world: World, postgres_url: str
) -> None:
    """DLV-5"""
    world.limits.reply = lambda _: refused(60.0)
    await delivery.client.send_message(message("news", priority=BROADCAST))
    await until(lambda: len(world.limits.asked) == 1)
    connection = await asyncpg.connect(postgres_url)
    lane = "SELECT pending, priority, share LIKE '% broadcast' FROM delivery.lanes"
    assert [tuple(row) for row in await connection.fetch(lane)] == [(1, 1, True)]
    await delivery.client.send_message(message("reply"))
    assert [tuple(row) for row in await connection.fetch(lane)] == [(2, 0, False)]
    await delivery.client.send_message(message("more news", priority=BROADCAST))
    assert [tuple(row) for row in await connection.fetch(lane)] == [(3, 0, False)]
    await connection.close()


async def test_a_reply_takes_along_the_broadcast_that_it_waits_behind(delivery: Delivery, world: World) -> None:
    """They come in their order, and the broadcast no longer waits for what replies leave."""
    world.limits.reply = only_replies
    broadcast = await delivery.client.send_message(message("news", priority=BROADCAST))

    async def put_off() -> bool:
        return (await delivery.get(broadcast.delivery_id)).waiting.reason == waiting_pb2.WAIT_REASON_RATE

    await until(put_off)
    reply = await delivery.client.send_message(message("reply"))
    await delivery.until_state(reply.delivery_id, SENT)
    assert world.receiver.texts() == ["news", "reply"]
