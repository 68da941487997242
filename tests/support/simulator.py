"""Steers a simulator over HTTP."""

from dataclasses import dataclass
from typing import Any

import aiohttp


@dataclass
class Simulator:
    """A running simulator."""

    url: str
    http: aiohttp.ClientSession

    async def ask(self, method: str, path: str, body: object = None, **query: object) -> tuple[int, Any]:
        """Status and JSON of any of its routes."""
        parameters = {name: str(value) for name, value in query.items()}
        async with self.http.request(method, self.url + path, json=body, params=parameters) as response:
            return response.status, await response.json()

    async def calls(self, **query: object) -> list[dict[str, Any]]:
        """Calls that match, oldest first."""
        status, body = await self.ask("GET", "/calls", **query)
        assert status == 200, body
        found: list[dict[str, Any]] = body["calls"]
        return found

    async def fault(self, provider: str, kind: str, **values: object) -> None:
        """Order a fault."""
        status, body = await self.ask("POST", "/faults", {"provider": provider, "kind": kind, **values})
        assert status == 201, body

    async def script(self, **values: object) -> None:
        """Tell the model what to say."""
        status, body = await self.ask("POST", "/scripts", values)
        assert status == 201, body

    async def send(self, body: object, token: str | None = "token") -> tuple[int, Any]:
        """Send a message as delivery does."""
        headers = {} if token is None else {"Authorization": token}
        async with self.http.post(f"{self.url}/chat2desk/v1/messages", json=body, headers=headers) as response:
            return response.status, await response.json()
