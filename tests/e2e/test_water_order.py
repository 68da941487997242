"""DLG-5, EDGE-2..4, DLV-1, OPS-3: a water order from the webhook to the provider, over the whole mesh."""

import asyncio
import json
from typing import Any

from parley.dialog.v1 import order_pb2

from tests.support.mesh import Mesh, until
from tests.support.person import Person

ADDRESS, PHONE, BOTTLES = "ул. Киевская 120, кв. 5", "0555 123 456", "3"


async def orders_of(stack: Mesh, person: Person) -> list[order_pb2.Order]:
    message = await stack.parley_json("messages", "show", person.message_ids[0])
    answer = await stack.orders.list_orders(
        order_pb2.ListOrdersRequest(tenant_id="demo", conversation_id=message["conversation_id"])
    )
    return list(answer.orders)


async def test_a_whole_order_makes_one_row(stack: Mesh, person: Person) -> None:
    greeting = await person.say("Привет")
    assert "Здравствуйте" in greeting and "адрес" in greeting.lower()
    assert "телефон" in (await person.say(ADDRESS)).lower()
    assert "бутыл" in (await person.say(PHONE)).lower()
    summary = await person.say(BOTTLES)
    assert ADDRESS in summary and "+996555123456" in summary and "3" in summary
    assert "принят" in await person.say("да")
    (order,) = await orders_of(stack, person)
    assert order.fields["address"] == ADDRESS
    assert order.fields["phone"] == "+996555123456"
    assert order.fields["bottles"] == 3


async def test_the_provider_is_called_with_the_channels_token(stack: Mesh, person: Person) -> None:
    await person.say("Привет")
    parameters = {"provider": "chat2desk", "client_id": person.client_id}
    async with stack.http.get(f"{stack.simulator}/calls", params=parameters) as response:
        (call,) = (await response.json())["calls"]
    assert call["path"] == "/chat2desk/v1/messages"
    assert call["headers"]["authorization"] == stack.demo["chat2desk"]["token"]
    assert str(call["body"]["client_id"]) == person.client_id


async def test_a_message_delivered_twice_is_answered_once(stack: Mesh, person: Person) -> None:
    answers = await asyncio.gather(*(person.post("Привет", "same") for _ in range(10)))
    assert {status for status, _ in answers} == {200}
    assert len({body["message_id"] for _, body in answers}) == 1
    assert sorted(body["duplicate"] for _, body in answers) == [False] + [True] * 9
    await person.wait_for(1)
    person.message_ids.append(answers[0][1]["message_id"])
    await until(lambda: completed(stack, person), what="completed message")
    assert len(await person.heard()) == 1


async def test_quick_messages_are_answered_in_their_order(stack: Mesh, person: Person) -> None:
    for text in ("Привет", ADDRESS, PHONE, BOTTLES, "да"):
        await person.send(text)
    replies = await person.wait_for(5)
    assert "Здравствуйте" in replies[0]
    assert "телефон" in replies[1].lower()
    assert "Всё верно" in replies[3]
    assert "принят" in replies[4]
    assert len(await orders_of(stack, person)) == 1


async def test_many_people_order_at_once(stack: Mesh) -> None:
    async def order(person: Person) -> int:
        for text in ("Привет", ADDRESS, PHONE, BOTTLES, "да"):
            await person.say(text, 240)
        return len(await orders_of(stack, person))

    assert await asyncio.gather(*(order(Person(stack)) for _ in range(20))) == [1] * 20


async def test_a_corrected_answer_is_what_is_ordered(stack: Mesh, person: Person) -> None:
    for text in ("Привет", ADDRESS, PHONE, BOTTLES):
        await person.say(text)
    assert "10" in await person.say("количество 10")
    await person.say("да")
    (order,) = await orders_of(stack, person)
    assert order.fields["bottles"] == 10


async def test_a_cancelled_order_makes_no_row(stack: Mesh, person: Person) -> None:
    for text in ("Привет", ADDRESS, PHONE, BOTTLES):
        await person.say(text)
    assert "отменён" in await person.say("отмена")
    assert not await orders_of(stack, person)


async def test_an_order_that_the_provider_refuses_for_a_while_is_answered_in_the_end(stack: Mesh) -> None:
    person = Person(stack)
    fault = {
        "provider": "chat2desk",
        "kind": "status",
        "status": 500,
        "count": 2,
        "match": {"client_id": person.client_id},
    }
    async with stack.http.post(f"{stack.simulator}/faults", json=fault) as response:
        assert response.status == 201
    assert "Здравствуйте" in await person.say("Привет")
    await until(lambda: completed(stack, person), what="completed message")


async def test_the_trace_goes_from_the_webhook_to_the_provider(stack: Mesh, person: Person) -> None:
    await person.say("Привет")
    spans: list[dict[str, Any]] = []
    expected = ("send inbox", "process inbox", "send outbox", "process outbox")

    async def whole() -> bool:
        code, out, _ = await stack.parley("trace", person.message_ids[0], "--json")
        if code:
            return False
        spans[:] = json.loads(out)["spans"]
        services = {span["service"] for span in spans}
        known = {"", None, *(span["span_id"] if "span_id" in span else span["id"] for span in spans)}
        return (
            {"edge", "dialog", "context", "delivery"} <= services  # limits is asked if there is no slot in hand
            and any(span["name"].startswith("POST") and span["service"] == "delivery" for span in spans)
            and set(expected) <= {span["name"] for span in spans}
            and all(span["parent_id"] in known for span in spans)  # a parent ends, and comes, after its children
        )

    await until(whole, 90, "whole trace", lambda: "\n".join(f"{s['service']} {s['name']}" for s in spans))
    ids = {span["span_id"] if "span_id" in span else span["id"] for span in spans}
    roots = [span for span in spans if not span["parent_id"]]
    assert [root["service"] for root in roots] == ["edge"]
    assert all(span["parent_id"] in ids for span in spans if span["parent_id"])
    names = [span["name"] for span in spans]
    for name in expected:
        assert name in names


async def completed(stack: Mesh, person: Person) -> bool:
    message = await stack.parley_json("messages", "show", person.message_ids[0])
    return bool(message["state"] == "COMPLETED")
