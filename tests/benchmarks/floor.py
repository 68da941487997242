"""The floor: a process that does only HTTP in, one INSERT, one UPDATE, HTTP out, with the libraries that Parley uses.

It promises almost nothing: no order, no dedupe beyond the key, no retry, no trace, and what it forgets in a crash is
lost. What the mesh costs is told as a ratio to it. `python -m tests.benchmarks.floor DATABASE_URL SINK_URL` prints
its port and serves until SIGTERM.
"""

import asyncio
import socket
import sys
from typing import Any

import aiohttp
import asyncpg
import msgspec
import uvicorn
import uvloop

from tests.benchmarks.sink import TOKEN

DDL = """
create table if not exists floor_messages (
    message_id bigint primary key,
    client_id bigint not null,
    text text not null,
    received_at timestamptz not null default clock_timestamp(),
    answered_at timestamptz
) with (fillfactor = 80)
"""
REPLY = "Принято"


class Hook(msgspec.Struct):
    """What the floor reads of a webhook."""

    message_id: int
    client_id: int
    text: str


class Floor:
    """A raw ASGI application."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", http: aiohttp.ClientSession, sink: str) -> None:
        self._pool = pool
        self._http = http
        self._sink = sink
        self._decode = msgspec.json.Decoder(Hook).decode
        self._answers: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        body = message["body"]
        while message.get("more_body"):
            message = await receive()
            body += message["body"]
        hook = self._decode(body)
        await self._pool.execute(
            "insert into floor_messages (message_id, client_id, text) values ($1, $2, $3)",
            hook.message_id,
            hook.client_id,
            hook.text,
        )
        answer = b'{"message_id":%d}' % hook.message_id
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})
        task = asyncio.create_task(self._answer(hook))
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def _answer(self, hook: Hook) -> None:
        data = msgspec.json.encode({"client_id": hook.client_id, "text": REPLY, "type": "to_client"})
        headers = {"Authorization": TOKEN, "Content-Type": "application/json"}
        async with self._http.post(f"{self._sink}/v1/messages", data=data, headers=headers) as response:
            await response.read()
        await self._pool.execute(
            "update floor_messages set answered_at = clock_timestamp() where message_id = $1", hook.message_id
        )


async def _leave_as_it_is(_: object) -> None:
    """Spare the round trip that the pool makes by default when a connection comes back."""


async def serve(database_url: str, sink: str) -> None:
    """Serve on a free port of loopback, which is printed, until a signal."""
    pool = await asyncpg.create_pool(database_url, min_size=20, max_size=20, reset=_leave_as_it_is)
    await pool.execute(DDL)
    async with pool, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        config = uvicorn.Config(
            Floor(pool, http, sink), http="httptools", lifespan="off", access_log=False, log_level="warning"
        )
        print(listener.getsockname()[1], flush=True)
        await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], sys.argv[2]))
