"""Ways to talk to a bot: in this process, and over a running stack."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.json_format import MessageToDict

from parley.context.v1 import context_pb2
from parley.dialog.v1 import dialog_pb2, order_pb2

from parley_client.context import ContextClient
from tests.support.mesh import Mesh, until
from tests.support.person import Person
from tests.support.talk import Talk, form_talk

SECONDS = 90.0


class InProcess:
    """The flow alone. It drops copies of a message as the inbox does, which is tested over the stack."""

    def __init__(self, talk: Talk | None = None) -> None:
        self._talk = talk or form_talk()

    async def say(self, text: str, copies: int) -> Sequence[str]:
        await self._talk.say(text)
        return [reply.text for reply in self._talk.plans[-1].replies]

    async def standing(self, step: str | None) -> tuple[str, Mapping[str, Any]]:
        return self._talk.step, self._talk.slots

    async def orders(self) -> Sequence[Mapping[str, Any]]:
        return self._talk.orders


@dataclass
class OverMesh:
    """Sends webhooks, reads replies from the simulator, and orders and context over gRPC."""

    stack: Mesh
    person: Person
    tenant_id: str = "demo"
    _heard: int = field(default=0)

    async def say(self, text: str, copies: int) -> Sequence[str]:
        """Returns the replies since the last line, once there are any. A reply too many fails the next line."""
        number = f"{self.person.client_id}-{len(self.person.message_ids)}-line"
        await asyncio.gather(*(self.person.send(text, number) for _ in range(copies)))
        replies = (await self.person.wait_for(self._heard + 1, SECONDS))[self._heard :]
        self._heard += len(replies)
        return replies

    async def standing(self, step: str | None) -> tuple[str, Mapping[str, Any]]:
        """Waits for the message's completion first, because a reply may arrive before the dialog is saved."""
        await until(self._completed, SECONDS, "completed message")
        found: tuple[str, Mapping[str, Any]] = ("", {})

        async def reached() -> bool:
            nonlocal found
            found = await self._dialog()
            return step is None or found[0] == step

        await until(reached, SECONDS, f"step {step}", lambda: f"at {found}")
        return found

    async def orders(self) -> Sequence[Mapping[str, Any]]:
        conversation_id = await self._conversation_id()
        request = order_pb2.ListOrdersRequest(tenant_id=self.tenant_id, conversation_id=conversation_id)
        answer = await self.stack.orders.list_orders(request)
        return [MessageToDict(order.fields) for order in reversed(answer.orders)]

    async def _completed(self) -> bool:
        return (await self._message(-1)).state == dialog_pb2.MESSAGE_STATE_COMPLETED

    async def _conversation_id(self) -> str:
        return (await self._message(0)).conversation_id

    async def _message(self, index: int) -> dialog_pb2.Message:
        request = dialog_pb2.GetMessageRequest(tenant_id=self.tenant_id, message_id=self.person.message_ids[index])
        return (await self.stack.dialog.get_message(request)).message

    async def _dialog(self) -> tuple[str, Mapping[str, Any]]:
        conversation_id = await self._conversation_id()
        request = context_pb2.GetContextRequest(tenant_id=self.tenant_id, conversation_id=conversation_id)
        answer = await ContextClient(self.stack.connection("context")).get_context(request)
        dialog = answer.snapshot.dialog
        slots = MessageToDict(dialog.slots)
        return dialog.step, {name: value for name, value in slots.items() if not name.startswith("_")}
