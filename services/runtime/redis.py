"""Clients of Redis, for one server or a cluster."""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

from redis.asyncio import ConnectionPool, Redis, RedisCluster
from redis.asyncio.client import PubSub
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ClusterError, NoScriptError, RedisClusterException, RedisError, SlotNotCoveredError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.utils import str_if_bytes

SOCKET_TIMEOUT = 1.0
"""Seconds that one command may take. Callers that can do without Redis wait less."""
CONNECTIONS = 32
"""The most connections of one process; in a cluster, to each node."""
SUBSCRIPTIONS = 16
"""Further connections to a node of a cluster, for subscriptions."""
CLUSTER = "+cluster"
"""Ends the scheme of a URL that names a cluster: `redis+cluster://` or `rediss+cluster://`."""

Client: TypeAlias = "Redis | RedisCluster"
T = TypeVar("T")


class WaitingPool(ConnectionPool):
    """Commands beyond `max_connections` wait for a connection.

    redis-py's own pool refuses them, and the one of its that waits takes 50 microseconds more a command.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._free = asyncio.Semaphore(self.max_connections)

    async def get_connection(self, command_name: str | None = None, *keys: Any, **options: Any) -> AbstractConnection:
        await self._free.acquire()
        connection: AbstractConnection = self.get_available_connection()  # type: ignore[no-untyped-call]
        try:
            await self.ensure_connection(connection)
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def release(self, connection: AbstractConnection) -> None:
        self._in_use_connections.remove(connection)
        try:
            if connection.should_reconnect():  # type: ignore[no-untyped-call]
                await connection.disconnect()
        finally:
            self._available_connections.append(connection)
            self._free.release()


class WaitingCluster(RedisCluster):
    """Commands beyond `CONNECTIONS` wait, as redis-py's cluster client refuses them too.

    Callers give up after a few milliseconds. What the client has to learn about the cluster may take longer, so it goes
    on in the background. A cluster that is away raises ConnectionError, as a server does.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._turns = asyncio.Semaphore(CONNECTIONS)
        self._learning: asyncio.Task[RedisCluster] | None = None

    async def initialize(self, *args: Any, **kwargs: Any) -> RedisCluster:
        if self._initialize:
            if self._learning is None or self._learning.done():
                self._learning = asyncio.create_task(self._learn(super().initialize(*args, **kwargs)))
                self._learning.add_done_callback(lambda task: task.cancelled() or task.exception())
            await asyncio.shield(self._learning)  # type: ignore[unused-awaitable]
        return self

    @staticmethod
    async def _learn(initialize: Awaitable[RedisCluster]) -> RedisCluster:
        try:
            return await initialize
        except RedisClusterException as error:
            raise RedisConnectionError(str(error)) from error

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        async with self._turns:
            if self._initialize:  # else the first commands would go to any node
                _ = await self.initialize()
            try:
                return await super().execute_command(*args, **kwargs)
            except (ClusterError, SlotNotCoveredError) as error:
                raise RedisConnectionError(str(error)) from error

    async def aclose(self) -> None:
        if self._learning is not None and not self._learning.done():
            await asyncio.wait({self._learning})  # others wait for it, and redis-py closes itself now and then
        await super().aclose()


class Script:
    """A Lua script, which is sent to a server that does not know it yet.

    redis-py's own loads it into all masters of a cluster first, and fails when one of them is away.
    """

    def __init__(self, client: Client, text: str) -> None:
        self._client = client
        self._text = text
        self._digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        """Runs the script and returns its result. The keys lie in one slot."""
        try:
            return await self._client.evalsha(self._digest, len(keys), *keys, *args)
        except NoScriptError:
            return await self._client.eval(self._text, len(keys), *keys, *args)


def make_redis(url: str, name: str) -> Client:
    """Returns a client that connects when it is first used. Commands fail fast while Redis is away; none is repeated.

    A command that is repeated after a lost answer could count twice, so only callers who know better repeat it.
    `redis+cluster://user:password@one:6379,two:6379` names some nodes of a cluster, which tell of the others.
    """
    if not url:
        raise RuntimeError("PARLEY_REDIS_URL is not set")
    options: dict[str, Any] = {
        "decode_responses": False,
        "socket_timeout": SOCKET_TIMEOUT,
        "socket_connect_timeout": SOCKET_TIMEOUT,
        "retry": Retry(NoBackoff(), 0),
        "client_name": f"parley-{name}",
    }
    if urlsplit(url).scheme.endswith(CLUSTER):
        first, others = _nodes(url)
        nodes = [ClusterNode(host, port) for host, port in others]
        connections = CONNECTIONS + SUBSCRIPTIONS
        # Slots that have moved are learned one by one: learning all of them anew breaks off what is under way.
        options |= {"max_connections": connections, "reinitialize_steps": 0}
        return WaitingCluster.from_url(first, startup_nodes=nodes, **options)
    return Redis.from_pool(WaitingPool.from_url(url, max_connections=CONNECTIONS, **options))


def _nodes(url: str) -> tuple[str, list[tuple[str, int]]]:
    """Returns the first node as a plain URL, and the addresses of the others."""
    parts = urlsplit(url)
    credentials, at, places = parts.netloc.rpartition("@")
    first, *others = places.split(",")
    plain = parts._replace(scheme=parts.scheme.removesuffix(CLUSTER), netloc=f"{credentials}{at}{first}")
    split = [urlsplit(f"//{other}") for other in others]
    return plain.geturl(), [(each.hostname or "", each.port or 6379) for each in split]


async def subscription(client: Client) -> PubSub:
    """Returns a subscriber. Every node of a cluster hears what is published on any node, so any will do."""
    if isinstance(client, RedisCluster):
        _ = await client.initialize()
        return client.pubsub(node=client.get_random_node())
    return client.pubsub()


async def hear(
    client: Client,
    channel: str,
    *,
    quiet: float,
    stands: Callable[[], None],
    heard: Callable[[bytes], None],
    ended: Callable[[], None],
    silent: Callable[[], None] = lambda: None,
) -> None:
    """Passes each publication on a channel to `heard`, until the connection breaks.

    `stands` is called once the subscription stands, `silent` after each `quiet` seconds without a publication, and
    `ended` at once when the connection breaks. Raises ConnectionError if Redis is silent and does not answer a ping
    within another `quiet` seconds.
    """
    pubsub = await subscription(client)
    try:
        await pubsub.subscribe(channel)
        asked = False
        while True:
            message = await pubsub.get_message(timeout=quiet)
            if message is None:
                silent()
                if asked:
                    raise ConnectionError("Redis does not answer")
                asked = True
                await pubsub.ping()
                continue
            asked = False
            if message["type"] == "subscribe":
                stands()
            elif message["type"] == "message":
                heard(message["data"])
    finally:
        ended()
        with suppress(RedisError, OSError):
            await pubsub.aclose()  # type: ignore[no-untyped-call]


def by_slot(client: Client, items: Iterable[T], key: Callable[[T], str]) -> list[list[T]]:
    """Groups items so that one command may touch the keys of a group: by slot in a cluster, or all together.

    `key` returns a key of the item. Its other keys have the same hash tag (`{...}`).
    """
    if not isinstance(client, RedisCluster):
        every = list(items)
        return [every] if every else []
    groups: defaultdict[int, list[T]] = defaultdict(list)
    for item in items:
        groups[client.keyslot(key(item))].append(item)
    return list(groups.values())


def node_of(client: Client, key: str) -> str:
    """Returns the name of the node that has a key, as far as is known; empty if there is only one server."""
    if not isinstance(client, RedisCluster):
        return ""
    node = client.get_node_from_key(key) if client.nodes_manager.slots_cache else None
    return node.name if node is not None else ""


async def run_ids(client: Client) -> str:
    """Identifies this run of Redis. The value changes with a restart of the server, or of any master of a cluster."""
    if isinstance(client, RedisCluster):
        infos = await client.info("server", target_nodes=RedisCluster.PRIMARIES)
        return ",".join(sorted(str_if_bytes(info["run_id"]) for info in infos.values()))
    return str((await client.info("server"))["run_id"])
