"""What the commands for messages, orders and deliveries send and print."""

import time

from google.protobuf.struct_pb2 import Struct

from parley.delivery.v1 import delivery_pb2
from parley.dialog.v1 import dialog_pb2, order_pb2

from tests.unit.parley_cli.conftest import ID, Scripted, dead_delivery, document, message, parley


def test_messages_have_the_documented_keys(stack: Scripted) -> None:
    stack.answers["ListMessages"] = dialog_pb2.ListMessagesResponse(messages=[message()])
    (shown,) = document("messages", "list", "--state", "completed")
    assert shown["id"] == shown["message_id"] == ID
    assert shown["state"] == "COMPLETED"
    assert shown["attempts"] == 1
    assert shown["received_at"] == "1970-01-01T00:16:40Z"
    assert shown["completed_at"].startswith("1970-01-01T00:16:40.12")
    assert shown["sent_at"] is None
    assert shown["usage"]["input_tokens"] == 7
    assert {"channel_id", "conversation_id"} <= shown.keys()
    assert list(stack.one("ListMessages").states) == [dialog_pb2.MESSAGE_STATE_COMPLETED]


def test_orders_have_whole_numbers_as_such(stack: Scripted) -> None:
    fields = Struct()
    fields.update({"bottles": 3, "address": "Киевская 120"})
    order = order_pb2.Order(order_id="o1", conversation_id="c1", fields=fields)
    order.created_at.GetCurrentTime()
    stack.answers["ListOrders"] = order_pb2.ListOrdersResponse(orders=[order])
    (shown,) = document("orders", "list")
    assert shown["id"] == "o1"
    assert shown["fields"] == {"bottles": 3, "address": "Киевская 120"}
    assert "bottles: 3" in parley("orders", "list").stdout


def test_send_looks_the_conversation_up(stack: Scripted) -> None:
    conversation = dialog_pb2.Conversation(conversation_id="c1", channel_id="shop", chat_id="42")
    stack.answers |= {
        "ListConversations": [
            dialog_pb2.ListConversationsResponse(next_page_token="more"),
            dialog_pb2.ListConversationsResponse(conversations=[conversation]),
        ],
        "BatchSendMessage": delivery_pb2.BatchSendMessageResponse(
            results=[{"response": {"delivery_id": "d1"}}]  # type: ignore[list-item]
        ),
    }
    assert document("send", "c1", "hello")["delivery_id"] == "d1"
    request = stack.one("BatchSendMessage").items[0].request
    assert (request.channel_id, request.chat_id, request.content.text) == ("shop", "42", "hello")


def test_a_dead_reply_of_an_answered_message_is_seen_in_the_list(stack: Scripted) -> None:
    """DLV-2: what is given up is never silent."""
    stack.answers["ListMessages"] = dialog_pb2.ListMessagesResponse(messages=[unanswered()])
    shown = parley("messages", "list").stdout
    assert "COMPLETED, reply dead" in shown
    assert "Айгуль" in shown and "Где мой заказ?" in shown
    (row,) = document("messages", "list")
    assert row["text"] == "Где мой заказ?"
    assert [(reply["state"], reply["error"]) for reply in row["replies"]] == [("DEAD", "HTTP 403: blocked")]
    stack.answers["GetMessage"] = dialog_pb2.GetMessageResponse(message=unanswered())
    assert "HTTP 403: blocked" in parley("messages", "show", ID).stdout


def test_retrying_an_answered_message_sends_its_dead_replies_again(stack: Scripted) -> None:
    stack.answers |= {
        "GetMessage": dialog_pb2.GetMessageResponse(message=unanswered()),
        "RetryDelivery": delivery_pb2.RetryDeliveryResponse(),
    }
    assert "sent again: delivery d1" in parley("messages", "retry", ID).stdout
    assert stack.one("RetryDelivery").delivery_id == "d1"
    assert "RetryMessage" not in stack.requests


def unanswered() -> dialog_pb2.Message:
    """Answered, and the reply never arrived."""
    made = message()
    made.content.text = "Где мой заказ?"
    made.sender.display_name = "Айгуль"
    reply = made.replies.add(state=dialog_pb2.REPLY_STATE_DEAD, delivery_id="d1", error="HTTP 403: blocked")
    reply.content.text = "В пути"
    return made


def test_dead_deliveries_are_listed_with_their_reason(stack: Scripted) -> None:
    stack.answers["ListDeliveries"] = delivery_pb2.ListDeliveriesResponse(deliveries=[dead_delivery("d1", time.time())])
    (row,) = document("deliveries", "list", "--state", "dead", "--channel", "shop")
    assert (row["id"], row["state"], row["error"]) == ("d1", "DEAD", "HTTP 403: blocked")
    request = stack.one("ListDeliveries")
    assert (request.part_state, request.channel_id) == (delivery_pb2.PART_STATE_DEAD, "shop")
    assert "HTTP 403: blocked" in parley("deliveries", "list").stdout


def test_dead_deliveries_of_the_last_hour_are_sent_again_after_a_question(stack: Scripted) -> None:
    now = time.time()
    stack.answers |= {
        "ListDeliveries": [
            delivery_pb2.ListDeliveriesResponse(deliveries=[dead_delivery("d3", now)], next_page_token="more"),
            delivery_pb2.ListDeliveriesResponse(
                deliveries=[dead_delivery("d2", now - 60), dead_delivery("d1", now - 7200)]
            ),
        ],
        "RetryDelivery": delivery_pb2.RetryDeliveryResponse(),
    }
    asked = parley("deliveries", "retry", "--since", "1h", "--channel", "shop")
    assert asked.exit_code == 1
    assert "Send 2 dead deliveries again" in asked.stderr and "--yes" in asked.stderr
    assert "RetryDelivery" not in stack.requests
    stack.answers["ListDeliveries"] = delivery_pb2.ListDeliveriesResponse(
        deliveries=[dead_delivery("d3", now), dead_delivery("d2", now - 60)]
    )
    assert "2 of 2" in parley("deliveries", "retry", "--since", "1h", "--yes").stdout
    assert [request.delivery_id for request in stack.requests["RetryDelivery"]] == ["d2", "d3"]
    assert "say which" in parley("deliveries", "retry").stderr


def test_a_delivery_tells_what_came_of_each_attempt(stack: Scripted) -> None:
    delivery = delivery_pb2.Delivery(delivery_id=ID)
    part = delivery.parts.add(state=delivery_pb2.PART_STATE_STARTED, unknown_statuses=2, last_unknown_status="queued")
    part.attempts.add(number=1, http_status=502, failure=delivery_pb2.FAILURE_KIND_RETRYABLE).ended_at.GetCurrentTime()
    failed = part.attempts.add(number=2, failure=delivery_pb2.FAILURE_KIND_TERMINAL, error="gone")
    failed.status = delivery_pb2.PROVIDER_STATUS_FAILED
    part.attempts.add(number=3, http_status=200).ended_at.GetCurrentTime()
    part.attempts.add(number=4)
    stack.answers["GetDelivery"] = delivery_pb2.GetDeliveryResponse(delivery=delivery)
    shown = parley("deliveries", "show", ID).stdout
    for words in (
        "2 statuses in unknown words, last 'queued'",
        "HTTP 502 retryable",
        "gone, reported failed",
        "HTTP 200 sent",
        "under way",
    ):
        assert words in shown
