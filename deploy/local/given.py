"""A PostgreSQL that was given by its URL: it has to answer before services are started that cannot do without it."""

import asyncio
import time
from collections.abc import Callable

import asyncpg

from deploy.local.server import ServerFailed

WAIT_FOR = 15.0
"""Seconds that a server which is starting gets."""
TRY_FOR = 5.0
PAUSE = 0.5

_STARTING = (OSError, asyncpg.CannotConnectNowError, asyncpg.PostgresConnectionError)


async def answers(url: str, tell: Callable[[str], None], *, wait_for: float = WAIT_FOR) -> None:
    """Returns when the server lets us in. Raises `ServerFailed`, which says why without the URL's password."""
    until = time.monotonic() + wait_for
    told = False
    while True:
        try:
            connection = await asyncpg.connect(url, timeout=TRY_FOR)
            await connection.close(timeout=TRY_FOR)
            return
        except _STARTING as error:
            why = str(error) or type(error).__name__
            if time.monotonic() > until:
                hint = "start it, or leave the variable out to use the embedded one"
                raise ServerFailed(f"the PostgreSQL of PARLEY_DATABASE_URL does not answer: {why}; {hint}") from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
            raise ServerFailed(f"the PostgreSQL of PARLEY_DATABASE_URL refuses us: {error}") from error
        if not told:
            tell(f"waiting for the PostgreSQL of PARLEY_DATABASE_URL: {why}")
            told = True
        await asyncio.sleep(PAUSE)
