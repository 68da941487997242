"""What providers report of sent messages."""

import asyncio

import asyncpg
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
        request = status("77", pb.PROVIDER_STATUS_DELIVERED, external_id=f"{answer.delivery_id}.0.1")
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


async def test_a_late_failure_of_an_earlier_attempt_kills_nothing(delivery: Delivery, world: World) -> None:
    """DLV-3. The first call is lost, the second works, and then the provider says that the first has failed."""
    ids: list[str] = []

    async def lose_first(call: Call) -> object:
        ids.append(call.body["external_id"])
        return None if len(ids) == 1 else world.receiver.ok()

    world.receiver.answer = lose_first  # type: ignore[assignment]
    answer = await delivery.client.send_message(message("first"))
    after = await delivery.client.send_message(message("second"))
    await delivery.until_state(answer.delivery_id, SENT)
    await delivery.until_state(after.delivery_id, SENT)
    assert [each.rpartition(".")[2] for each in ids] == ["1", "2", "1"], "our id names the attempt"
    edge = delivery.as_("edge")[0]
    await edge.report_status(status("early", pb.PROVIDER_STATUS_FAILED, external_id=ids[0], error="gone"))
    sent = await delivery.get(answer.delivery_id)
    assert [part.state for part in sent.parts] == [SENT]
    first, second = sent.parts[0].attempts
    assert (first.status, first.error, first.provider_message_id) == (pb.PROVIDER_STATUS_FAILED, "gone", "early")
    assert second.provider_message_id == sent.parts[0].provider_message_id
    await edge.report_status(status(second.provider_message_id, pb.PROVIDER_STATUS_FAILED))
    assert [part.state for part in (await delivery.get(answer.delivery_id)).parts] == [DEAD]


async def test_what_was_found_by_our_id_is_found_by_the_providers_from_then_on(
    delivery: Delivery, world: World
) -> None:
    """A part that was settled without a provider's id, and statuses that come in any order."""
    edge = delivery.as_("edge")[0]

    async def report_and_close(call: Call) -> None:
        world.receiver.answer = None
        await edge.report_status(status("77", pb.PROVIDER_STATUS_READ))  # nobody knows yet whose it is
        await edge.report_status(status("77", pb.PROVIDER_STATUS_SENT, external_id=call.body["external_id"]))

    world.receiver.answer = report_and_close
    answer = await delivery.client.send_message(message("text"))

    async def read() -> bool:
        return (await delivery.get(answer.delivery_id)).HasField("read_at")

    await until(read)
    assert world.receiver.texts() == ["text"]
    await edge.report_status(status("77", pb.PROVIDER_STATUS_FAILED, error="what was read did not fail"))
    await until(lambda: world.dialog.states(answer.delivery_id) == ["SENT", "READ"])
    assert [part.state for part in (await delivery.get(answer.delivery_id)).parts] == [SENT]


async def test_a_word_that_nobody_knows_changes_nothing_and_is_shown(delivery: Delivery, world: World) -> None:
    answer = await delivery.client.send_message(message("text"))
    sent = await delivery.until_state(answer.delivery_id, SENT)
    edge = delivery.as_("edge")[0]
    name = sent.parts[0].provider_message_id
    for word in ("queued", "teleported"):
        await edge.report_status(status(name, pb.PROVIDER_STATUS_UNKNOWN, key=f"{name}:{word}", word=word))
    [part] = (await delivery.get(answer.delivery_id)).parts
    assert (part.state, part.unknown_statuses, part.last_unknown_status) == (SENT, 2, "teleported")
    assert [attempt.status for attempt in part.attempts] == [pb.PROVIDER_STATUS_UNSPECIFIED]
    await until(lambda: world.dialog.states(answer.delivery_id) == ["SENT"])


async def test_an_early_status_is_placed_at_once_behind_any_number_of_foreign_ones(
    delivery: Delivery, world: World
) -> None:
    """Other systems send by the same account, and their statuses come to us as well."""
    connection = await asyncpg.connect(world.settings().database_url)
    await connection.execute(
        """
        INSERT INTO delivery.statuses (channel_key, dedupe_key, provider_message_id, external_id, status, at, error,
            received_at, look_at)
        SELECT channel_key, 'foreign' || n, 'foreign' || n, '', 2, now(), '', now(), now()
        FROM delivery.channels, generate_series(1, 20000) AS n
        """
    )
    edge = delivery.as_("edge")[0]

    async def report_first(call: Call) -> object:
        await edge.report_status(status(str(world.receiver.next_id + 1), pb.PROVIDER_STATUS_DELIVERED))
        return world.receiver.ok()

    world.receiver.answer = report_first  # type: ignore[assignment]
    answer = await delivery.client.send_message(message("text"))

    async def delivered() -> bool:
        return (await delivery.get(answer.delivery_id)).HasField("delivered_at")

    await until(delivered)
    waiting = "SELECT count(*) FROM delivery.statuses WHERE NOT matched AND look_at <= now()"
    assert await connection.fetchval(waiting) > 0, "the foreign ones have not been walked through for that"
    await connection.close()


async def test_a_status_whose_process_died_before_placing_it_is_placed_later(delivery: Delivery, world: World) -> None:
    answer = await delivery.client.send_message(message("text"))
    sent = await delivery.until_state(answer.delivery_id, SENT)
    connection = await asyncpg.connect(world.settings().database_url)
    await connection.execute(
        """
        INSERT INTO delivery.statuses (channel_key, dedupe_key, provider_message_id, external_id, status, at, error,
            look_at)
        SELECT channel_key, 'left', $1, '', 2, now(), '', now() FROM delivery.channels
        """,
        sent.parts[0].provider_message_id,
    )
    await connection.close()

    async def delivered() -> bool:
        return (await delivery.get(answer.delivery_id)).HasField("delivered_at")

    await until(delivered)


async def test_a_status_that_cannot_be_placed_stops_no_other(delivery: Delivery, world: World) -> None:
    answers = [await delivery.client.send_message(message(text, chat=text)) for text in ("broken", "well")]
    sent = [await delivery.until_state(answer.delivery_id, SENT) for answer in answers]
    names = [each.parts[0].provider_message_id for each in sent]
    connection = await asyncpg.connect(world.settings().database_url)
    await connection.execute(
        "UPDATE delivery.deliveries SET parts = '[[\"no part\"]]' WHERE delivery_id = $1", answers[0].delivery_id
    )
    for name in names:
        await connection.execute(
            """
            INSERT INTO delivery.statuses (channel_key, dedupe_key, provider_message_id, external_id, status, at, error,
                look_at)
            SELECT channel_key, $1, $1, '', 2, now(), '', now() FROM delivery.channels
            """,
            name,
        )
    await connection.close()

    async def delivered() -> bool:
        return (await delivery.get(answers[1].delivery_id)).HasField("delivered_at")

    await until(delivered)


@pytest.mark.parametrize("said", [pb.PROVIDER_STATUS_DELIVERED, pb.PROVIDER_STATUS_FAILED])
async def test_a_status_during_a_call_leaves_no_lane_leased(delivery: Delivery, world: World, said: int) -> None:
    """The conversation goes on at once, and not when the lease has run out (a minute, here)."""
    edge = delivery.as_("edge")[0]

    async def report_and_answer(call: Call) -> object:
        world.receiver.answer = None
        await edge.report_status(status("1001", said, external_id=call.body["external_id"]))
        return world.receiver.ok()

    world.receiver.answer = report_and_answer  # type: ignore[assignment]
    first = await delivery.client.send_message(message("first"))
    second = await delivery.client.send_message(message("second"))
    await delivery.until_state(second.delivery_id, SENT, seconds=15.0)
    ended = await delivery.get(first.delivery_id)
    good = said == pb.PROVIDER_STATUS_DELIVERED
    assert [part.state for part in ended.parts] == [SENT if good else DEAD]
    assert ended.parts[0].attempts[0].http_status == 200
    expected = ["SENT", "DELIVERED"] if good else ["DEAD"]
    await until(lambda: world.dialog.states(first.delivery_id) == expected)
    assert world.receiver.texts() == ["first", "second"]


async def test_an_operators_change_during_a_call_leaves_no_lane_leased(delivery: Delivery, world: World) -> None:
    """A part is dead by a status, an operator wants it again, and all of that while its call is under way."""
    edge, operator = delivery.as_("edge")[0], delivery.as_("operator")[0]

    async def change_and_answer(call: Call) -> object:
        world.receiver.answer = None
        failed = status("77", pb.PROVIDER_STATUS_FAILED, external_id=call.body["external_id"])
        await edge.report_status(failed)
        delivery_id = call.body["external_id"].partition(".")[0]
        again = pb.RetryDeliveryRequest(tenant_id=TENANT, delivery_id=delivery_id, request_id="again")
        await operator.retry_delivery(again)
        return world.receiver.ok()

    world.receiver.answer = change_and_answer  # type: ignore[assignment]
    first = await delivery.client.send_message(message("first"))
    second = await delivery.client.send_message(message("second"))
    await delivery.until_state(second.delivery_id, SENT, seconds=15.0)
    await delivery.until_state(first.delivery_id, SENT, seconds=15.0)
    assert sorted(world.receiver.texts()) == ["first", "first", "second"]


async def test_an_answer_is_kept_though_another_worker_has_taken_the_lane(world: World) -> None:
    """The worker was slow, its lease ran out, and the part was marked unknown: its known `sent` is not thrown away."""
    settings = {"delivery_lease_seconds": 60.0, "delivery_unknown_policy": "hold"}
    async with world.serving(**settings) as first, world.serving(**settings) as second:
        await first.create_channel()
        connection = await asyncpg.connect(world.settings().database_url)
        past = "now() - interval '1 second'"
        answered = asyncio.Event()

        async def take_over(call: Call) -> object:
            world.receiver.answer = None
            await connection.execute(f"UPDATE delivery.lanes SET lease_until = {past}, due_at = {past}")
            await answered.wait()
            return world.receiver.ok()

        world.receiver.answer = take_over  # type: ignore[assignment]
        answer = await first.client.send_message(message("text"))
        await second.until_state(answer.delivery_id, UNKNOWN)
        answered.set()
        sent = await second.until_state(answer.delivery_id, SENT, seconds=15.0)
        assert world.receiver.texts() == ["text"]
        assert not sent.parts[0].possibly_duplicate
        assert [attempt.http_status for attempt in sent.parts[0].attempts] == [200]
        await until(lambda: world.dialog.states(answer.delivery_id) == ["SENT"])
        await connection.close()
