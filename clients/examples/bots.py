"""List a tenant's bots, or say why that fails: PARLEY_TOKEN=... python bots.py TENANT"""

import asyncio
import os
import sys

from parley.dialog.v1.bot_pb2 import ListBotsRequest

from parley_client import BotClient, CallError, connect


async def main(tenant: str) -> None:
    address = os.environ.get("PARLEY_DIALOG_ADDRESS", "127.0.0.1:50052")
    async with connect(address, audience="dialog", tokens=os.environ["PARLEY_TOKEN"]) as connection:
        for bot in (await BotClient(connection).list_bots(ListBotsRequest(tenant_id=tenant), timeout=5.0)).bots:
            print(bot.bot_id)


try:
    asyncio.run(main(*sys.argv[1:]))
except CallError as error:
    sys.exit(f"{error.reason}: {error.message}")
