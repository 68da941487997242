"""`parley send`: sends a message in a conversation as the bot."""

from typing import Annotated
from uuid import uuid4

import typer

from parley.common.v1 import content_pb2
from parley.delivery.v1 import delivery_pb2
from parley.dialog.v1 import dialog_pb2

from parley_cli.faults import Fault
from parley_cli.local import Session, perform
from parley_cli.output import DEFAULT_TENANT, Json, Tenant, print_json


def send(
    conversation_id: Annotated[str, typer.Argument(help="The conversation, as `parley messages list` shows it.")],
    text: Annotated[str, typer.Argument(help="What to send.")],
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Send a message in a conversation without being asked."""

    async def work(session: Session) -> delivery_pb2.SendMessageResponse:
        conversation = await find_conversation(session, conversation_id)
        request = delivery_pb2.SendMessageRequest(
            tenant_id=tenant,
            channel_id=conversation.channel_id,
            conversation_id=conversation_id,
            chat_id=conversation.chat_id,
            content=content_pb2.OutboundContent(text=text),
            request_id=f"cli-{uuid4()}",
        )
        return await session.delivery.send_message(request)

    sent = perform(tenant, work)
    if as_json:
        print_json({"delivery_id": sent.delivery_id, "duplicate": sent.duplicate})
    else:
        typer.echo(f"stored as delivery {sent.delivery_id}")


async def find_conversation(session: Session, conversation_id: str) -> dialog_pb2.Conversation:
    token = ""
    while True:
        request = dialog_pb2.ListConversationsRequest(tenant_id=session.tenant, page_size=500, page_token=token)
        page = await session.dialog.list_conversations(request)
        for conversation in page.conversations:
            if conversation.conversation_id == conversation_id:
                return conversation
        token = page.next_page_token
        if not token:
            raise Fault(
                f"tenant {session.tenant!r} has no conversation {conversation_id!r}",
                "`parley messages list` shows the conversations of the latest messages.",
            )
