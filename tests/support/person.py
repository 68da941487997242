"""A person who writes through Chat2Desk: webhooks in, and what the simulator got for them."""

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import aiohttp

from tests.support.mesh import Mesh

_numbers = itertools.count(1)


@dataclass
class Person:
    """One client of a Chat2Desk channel."""

    mesh: Mesh
    channel_id: str = "demo-chat2desk"
    secret: str = ""
    client_id: str = field(default_factory=lambda: f"c{uuid4().hex[:12]}")
    message_ids: list[str] = field(default_factory=list)

    async def post(self, text: str, message_id: str = "") -> tuple[int, dict[str, Any]]:
        """Send a webhook: the status and the body of the answer."""
        return await self._hook(
            {
                "hook_type": "inbox",
                "type": "from_client",
                "message_id": message_id or f"{self.client_id}-{next(_numbers)}",
                "client_id": self.client_id,
                "text": text,
                "transport": "whatsapp",
                "client": {"id": self.client_id, "name": "Айгуль"},
            }
        )

    async def _hook(self, hook: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        secret = self.secret or self.mesh.demo["chat2desk"]["secret"]
        url = f"{self.mesh.edge}/webhooks/chat2desk/{self.channel_id}"
        async with self.mesh.http.post(url, json=hook, headers={"X-Webhook-Secret": secret}) as response:
            return response.status, await body_of(response)

    async def send(self, text: str, message_id: str = "", seconds: float = 90.0) -> str:
        """Send a webhook as a provider does: again and again until it is taken. The message's id."""
        message_id = message_id or f"{self.client_id}-{next(_numbers)}"
        body = await self._until_taken(lambda: self.post(text, message_id), seconds)
        self.message_ids.append(body["message_id"])
        return str(body["message_id"])

    async def report(self, call: dict[str, Any], word: str, seconds: float = 90.0) -> None:
        """Send the status of a reply that the provider took in this call, until it is taken."""
        hook = {
            "hook_type": "outbox_status",
            "message_id": call["message_id"],
            "external_id": call["body"]["external_id"],
            "status": word,
        }
        await self._until_taken(lambda: self._hook(hook), seconds)

    async def _until_taken(
        self, post: Callable[[], Awaitable[tuple[int, dict[str, Any]]]], seconds: float
    ) -> dict[str, Any]:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    status, body = await post()
                except (aiohttp.ClientError, OSError):
                    status, body = 0, {}
                if status == 200:
                    return body
                if status not in (0, 500, 503):
                    raise AssertionError(f"{status}: {body}")
                await asyncio.sleep(0.1)

    async def heard(self) -> list[str]:
        """Texts that the provider took for this person, in order."""
        parameters = {"provider": "chat2desk", "client_id": self.client_id, "accepted": "true", "limit": "1000"}
        async with self.mesh.http.get(f"{self.mesh.simulator}/calls", params=parameters) as response:
            calls = (await response.json())["calls"]
        return [call["text"] for call in calls]

    async def wait_for(self, count: int, seconds: float = 90.0) -> list[str]:
        """The texts, once there are so many."""
        texts: list[str] = []
        try:
            async with asyncio.timeout(seconds):
                while len(texts := await self.heard()) < count:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(
                f"{len(texts)} of {count} replies within {seconds} s: {texts}\n{self.mesh.log_end()}"
            ) from None
        return texts

    async def say(self, text: str, seconds: float = 90.0) -> str:
        """Say something and wait for one more reply: the reply."""
        before = len(await self.heard())
        await self.send(text, seconds=seconds)
        return (await self.wait_for(before + 1, seconds))[-1]


async def body_of(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """The JSON of an answer. A server that is just being stopped may refuse in plain words."""
    text = await response.text()
    if response.status in (500, 503) and not text.startswith("{"):
        return {"detail": text}
    body: dict[str, Any] = json.loads(text)
    return body
