"""The person's side: sends webhooks to the edge as providers do."""

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.simulator.bodies import Json, read_command
from services.simulator.calls import CallLog, Query
from services.simulator.faults import Faults
from services.simulator.providers.base import Say
from services.simulator.providers.registry import PROVIDERS

if TYPE_CHECKING:
    from aiohttp import ClientSession

TIMEOUT = 10.0
LONGEST_WAIT = 60.0
MOST_COPIES = 100


class Person:
    """Speaks to a bot over the edge's webhook."""

    def __init__(self, calls: CallLog, faults: Faults) -> None:
        self._calls = calls
        self._faults = faults
        self._session: ClientSession | None = None

    def routes(self) -> list[Route]:
        return [Route("/say", self.say, methods=["POST"])]

    async def say(self, request: Request) -> Response:
        """`POST /say`: the answers to the webhooks, and with `wait` the replies that came within so many seconds."""
        said = await read_command(request, Say)
        provider = PROVIDERS.get(said.provider)
        if provider is None:
            raise HTTPException(400, f"provider: must be {' or '.join(PROVIDERS)}")
        if not said.webhook_url.startswith(("http://", "https://")):
            raise HTTPException(400, "webhook_url: must be an http address")
        if not 1 <= said.copies <= MOST_COPIES:
            raise HTTPException(400, f"copies: must be from 1 to {MOST_COPIES}")
        client_id = str(said.client_id)
        fault = self._faults.take(said.provider, client_id=client_id, text=said.text, webhook=True)
        query = Query(said.provider, client_id, since=self._calls.last_id, accepted=True)
        payload = msgspec.json.encode(provider.webhook(said, said.message_id or self._calls.next_message_id()))
        await asyncio.sleep(min(max(said.delay, 0.0), LONGEST_WAIT))
        copies = said.copies + (1 if fault else 0)
        answers = await asyncio.gather(*(self._post(said.webhook_url, payload) for _ in range(copies)))
        if said.wait > 0:
            await self._calls.wait(query, 1, min(said.wait, LONGEST_WAIT))
        replies = [call.text for call in self._calls.find(query, 100)]
        return Json({"webhooks": answers, "replies": replies, "since": query.since})

    async def close(self) -> None:
        if self._session:
            await self._session.close()

    async def _post(self, url: str, payload: bytes) -> dict[str, Any]:
        """One webhook. A failure is an answer with status 0."""
        from aiohttp import ClientError, ClientSession, ClientTimeout

        if self._session is None:
            self._session = ClientSession(timeout=ClientTimeout(total=TIMEOUT))
        try:
            async with self._session.post(url, data=payload, headers={"content-type": "application/json"}) as answer:
                return {"status": answer.status, "body": await answer.text()}
        except (ClientError, TimeoutError) as error:
            return {"status": 0, "body": f"{type(error).__name__}: {error}"}
