"""Ask a bot and print its reply: PARLEY_TOKEN=... python ask.py demo-api assistant WHO TEXT"""

import os
import sys
from uuid import uuid4

from parley.common.v1.identity_pb2 import IDENTITY_KIND_EXTERNAL, Identity, Sender
from parley.dialog.v1.dialog_pb2 import ChatRequest

from parley_client import DialogClient, blocking

channel, bot, who, text = sys.argv[1:]
sender = Sender(identity=Identity(kind=IDENTITY_KIND_EXTERNAL, value=who))
request = ChatRequest(tenant_id="demo", channel_id=channel, bot_id=bot, sender=sender, request_id=str(uuid4()))
request.content.text = text
address = os.environ.get("PARLEY_DIALOG_ADDRESS", "127.0.0.1:50052")
with blocking.connect(address, audience="dialog", tokens=os.environ["PARLEY_TOKEN"]) as connection:
    for event in DialogClient(connection).chat(request, timeout=60.0):
        if event.HasField("final"):
            print(event.final.reply)
