"""What providers report of sent messages."""

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from parley.delivery.v1 import delivery_pb2 as pb

from parley_client.errors import NotFound
from tests.integration.delivery.conftest import (
    CHANNEL,
    DEAD,
    SENT,
    TENANT,
    UNKNOWN,
    Call,
    Delivery,
    World,
    message,
    until,
)


def status(provider_message_id: str, what: int, key: str = "", **values: object) -> pb.ReportStatusRequest:
    request = {
        "tenant_id": TENANT,
        "channel_id": CHANNEL,
        "provider_message_id": provider_message_id,
        "status": what,
        "at": Timestamp(seconds=1_800_000_000),
        "dedupe_key": key or f"{provider_message_id}:{what}",
    }
    return pb.ReportStatusRequest(**(request | values))  # type: ignore[arg-type]


async def test_delivered_and_read_are_kept_and_told(delivery: Delivery, world: World) -> None:
    answer = await delivery.client.send_message(message("text"))
    sent = await delivery.until_state(answer.delivery_id, SENT)
    edge = delivery.as_("edge")[0]
    message_id = sent.parts[0].provider_message_id
    for what in (pb.PROVIDER_STATUS_DELIVERED, pb.PROVIDER_STATUS_READ):
        assert not (await edge.report_status(status(message_id, what))).duplicate
        assert (await edge.report_status(status(message_id, what))).duplicate
    read = await delivery.get(answer.delivery_id)
    assert read.delivered_at.seconds == read.read_at.seconds == 1_800_000_000
    await until(lambda: world.dialog.states(answer.delivery_id) == ["SENT", "DELIVERED", "READ"])


async def test_a_status_that_comes_before_the_sends_own_answer_is_matched_later(
    delivery: Delivery, world: World
) -> None:
    edge = delivery.as_("edge")[0]

    async def report_first(call: Call) -> object:
        world.receiver.next_id += 1
        await edge.report_status(status(str(world.receiver.next_id), pb.PROVIDER_STATUS_DELIVERED))
        world.receiver.next_id -= 1
        return world.receiver.ok()

    world.receiver.answer = report_first  # type: ignore[assignment]
    answer = await delivery.client.send_message(message("text"))

    async def delivered() -> bool:
        return (await delivery.get(answer.delivery_id)).HasField("delivered_at")

    await until(delivered)
    await until(lambda: world.dialog.states(answer.delivery_id) == ["SENT", "DELIVERED"])


async def test_a_failed_status_makes_a_sent_part_dead(delivery: Delivery, world: World) -> None:
    answer = await delivery.client.send_message(message("text"))
    sent = await delivery.until_state(answer.delivery_id, SENT)
    request = status(sent.parts[0].provider_message_id, pb.PROVIDER_STATUS_FAILED, error="the person has left")
    await delivery.as_("edge")[0].report_status(request)
    dead = await delivery.until_state(answer.delivery_id, DEAD)
    assert dead.parts[0].attempts[-1].error == "the person has left"
    await until(lambda: world.dialog.states(answer.delivery_id) == ["SENT", "DEAD"])
    client = delivery.as_("operator")[0]
    await client.retry_delivery(
        pb.RetryDeliveryRequest(tenant_id=TENANT, delivery_id=answer.delivery_id, request_id="r")
    )
    await delivery.until_state(answer.delivery_id, SENT)


@pytest.mark.parametrize("early", [False, True])
async def test_what_is_kept_of_a_failed_status_has_no_text_and_no_phone(
    delivery: Delivery, world: World, early: bool
) -> None:
    text = "Is +996 555 12-34-56 your number?"
    edge = delivery.as_("edge")[0]

    async def report() -> None:
        error = f"{text!r} cannot go to 996700123456"
        await edge.report_status(status("1001", pb.PROVIDER_STATUS_FAILED, error=error))

    async def report_first(call: Call) -> object:
        await report()
        return world.receiver.ok()

    if early:
        world.receiver.answer = report_first  # type: ignore[assignment]
    answer = await delivery.client.send_message(message(text, chat="chat-1"))
    if not early:
        await delivery.until_state(answer.delivery_id, SENT)
        await report()
    dead = await delivery.until_state(answer.delivery_id, DEAD)
    assert dead.parts[0].attempts[-1].error == "'***' cannot go to ***"
    await until(lambda: world.dialog.states(answer.delivery_id) == ["SENT", "DEAD"])
    assert world.dialog.told[-1].error == "'***' cannot go to ***"


async def test_a_status_with_our_own_id_resolves_an_unknown_outcome(world: World) -> None:
    async with world.serving(delivery_unknown_policy="hold") as delivery:
        await delivery.create_channel()

        async def close(call: Call) -> None:
            world.receiver.answer = None

        world.receiver.answer = close
        answer = await delivery.client.send_message(message("first"))
        after = await delivery.client.send_message(message("second"))
        await delivery.until_state(answer.delivery_id, UNKNOWN)
        request = status("77", pb.PROVIDER_STATUS_DELIVERED, external_id=f"{answer.delivery_id}.0")
        await delivery.as_("edge")[0].report_status(request)
        sent = await delivery.until_state(answer.delivery_id, SENT)
        assert sent.parts[0].provider_message_id == "77"
        assert not sent.parts[0].possibly_duplicate
        await delivery.until_state(after.delivery_id, SENT)
        assert world.receiver.texts() == ["first", "second"]
        await until(lambda: world.dialog.states(answer.delivery_id) == ["SENT", "DELIVERED"])


async def test_a_status_that_came_during_a_call_of_unknown_outcome_spares_the_second_call(
    delivery: Delivery, world: World
) -> None:
    async def deliver_and_close(call: Call) -> None:
        world.receiver.answer = None
        request = status("77", pb.PROVIDER_STATUS_DELIVERED, external_id=call.body["external_id"])
        await delivery.as_("edge")[0].report_status(request)

    world.receiver.answer = deliver_and_close
    answer = await delivery.client.send_message(message("text"))
    sent = await delivery.until_state(answer.delivery_id, SENT)
    assert sent.parts[0].provider_message_id == "77"
    assert not sent.parts[0].possibly_duplicate
    assert world.receiver.texts() == ["text"]


async def test_a_status_never_reaches_another_tenants_delivery(delivery: Delivery) -> None:
    await delivery.create_channel("globex-channel", "globex")
    answer = await delivery.client.send_message(message("text"))
    sent = await delivery.until_state(answer.delivery_id, SENT)
    edge = delivery.as_("edge")[0]
    message_id = sent.parts[0].provider_message_id
    foreign = {"tenant_id": "globex", "channel_id": "globex-channel", "external_id": f"{answer.delivery_id}.0"}
    await edge.report_status(status(message_id, pb.PROVIDER_STATUS_FAILED, **foreign))
    with pytest.raises(NotFound):
        await edge.report_status(status(message_id, pb.PROVIDER_STATUS_FAILED, "k", tenant_id="globex"))
    await edge.report_status(status(message_id, pb.PROVIDER_STATUS_DELIVERED))

    async def delivered() -> bool:
        return (await delivery.get(answer.delivery_id)).HasField("delivered_at")

    await until(delivered)
    assert [part.state for part in (await delivery.get(answer.delivery_id)).parts] == [SENT]
