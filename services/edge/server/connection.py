"""One connection: its bytes become exchanges, which are answered in order."""

import asyncio
from collections import deque
from math import inf
from typing import cast

from starlette.types import ASGIApp, Receive, Scope, Send

from services.edge.problems import Problem
from services.edge.server.admission import Admission
from services.edge.server.exchange import CLOSE, Exchange
from services.edge.server.parser import RequestParser
from services.runtime.logs import get_logger

log = get_logger(__name__)

CLOSING_SECONDS = 5.0
"""Time for the last bytes of an answer to be sent."""
OVERHEAD = 8
"""How many times its size a body may take on the wire: a chunk of one byte takes six."""

_TOO_SLOW = Problem(408, "TOO_SLOW", "The request took too long to come; send it again.")
_TOO_LARGE = Problem(413, "TOO_LARGE", "The body is larger than the edge reads.")
_FULL = Problem(503, "OVERLOADED", "There are too many connections; send it again later.", retry_after=1.0)


class Connection(asyncio.Protocol):
    """Reads requests no faster than they are answered."""

    def __init__(self, admission: Admission, app: ASGIApp) -> None:
        self._admission = admission
        self._app = app
        self._bounds = admission.bounds
        self._transport: asyncio.Transport | None = None
        self._peer = ("", 0)
        self._parser = RequestParser(admission.bounds, self)
        self._open: deque[Exchange] = deque()
        """Exchanges that are not answered yet; the first is being answered."""
        self._reading: Exchange | None = None
        """The exchange whose body is still arriving."""
        self._owed: Problem | None = None
        """The refusal of the last request, which is sent after the answers to the requests before it."""
        self._deadline = inf
        self._body_since = 0.0
        self._body_bytes = 0
        self._lingering = False
        self._paused_since: float | None = None
        self._writable: asyncio.Event | None = None
        self._write_deadline = inf

    # Called by the network.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        peer = transport.get_extra_info("peername")
        self._peer = (str(peer[0]), int(peer[1])) if isinstance(peer, tuple) else ("", 0)
        self._deadline = self._admission.clock() + self._bounds.head_seconds
        if not self._admission.admit(self, self._peer[0]):
            self._parser.stop()
            self._say(_FULL)
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = self._reading = None
        self._parser.close()
        self._admission.release(self, self._peer[0])
        for exchange in self._open:
            exchange.lose()
        self._open.clear()
        if self._writable is not None:
            self._writable.set()

    def data_received(self, data: bytes) -> None:
        parser = self._parser
        if parser.stopped:
            self._throw_away(len(data))
            return
        if parser.in_head and parser.head_bytes == 0 and not self._open:
            self._admission.mark_active(self)
            self._deadline = self._admission.clock() + self._bounds.head_seconds
        parser.feed(data)
        if self._reading is not None:
            self._took(self._reading, len(data))
        if parser.refusal is not None:
            self._admission.refuse(parser.refusal.reason.lower(), self._peer[0])
            self._refuse(parser.refusal)

    def pause_writing(self) -> None:
        self._writable = asyncio.Event()
        self._write_deadline = self._admission.clock() + self._bounds.write_seconds

    def resume_writing(self) -> None:
        self._write_deadline = inf
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    # Called by the parser.

    def begun(self, scope: Scope, *, keep_alive: bool, expects_continue: bool) -> None:
        forwarded = (value for name, value in scope["headers"] if name == b"x-forwarded-for")
        scope["client"] = (self._admission.proxies.client(self._peer[0], forwarded), self._peer[1])
        exchange = Exchange(self, scope, keep_alive=keep_alive, expects_continue=expects_continue)
        self._reading = exchange
        self._body_bytes = 0
        self._body_since = self._admission.clock()
        self._deadline = inf
        self._open.append(exchange)
        if len(self._open) == 1:
            self._answer_next()
        else:
            self._pause()

    def body(self, data: bytes) -> None:
        if self._reading is not None:
            self._reading.feed(data)

    def complete(self) -> None:
        exchange, self._reading = self._reading, None
        if exchange is None:
            return
        exchange.finish()
        if len(self._open) > self._bounds.pipelined:
            exchange.keep_alive = False
        if not exchange.keep_alive:
            self._parser.stop()

    # Called by exchanges.

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    async def drained(self) -> None:
        if self._writable is not None:
            await self._writable.wait()

    def want(self) -> None:
        if len(self._open) == 1:
            self._resume()

    def date(self) -> bytes:
        return self._admission.date()

    def done(self, exchange: Exchange) -> None:
        if self._transport is None:
            return
        self._open.popleft()
        if not exchange.complete:
            self._linger()
        elif not exchange.keep_alive or (self._admission.closing and not self._open):
            self._close()
        elif self._open:
            self._answer_next()
        elif self._owed is not None:
            self._say(self._owed)
            self._linger()
        else:
            self._deadline = self._admission.clock() + self._bounds.idle_seconds
            self._admission.mark_idle(self)
            self._resume()

    # Called by admission.

    def close_if_overdue(self, now: float) -> None:
        if now >= self._write_deadline:
            self._admission.refuse("slow_readers", self._peer[0])
            self.abort()
        elif now >= self._deadline:
            self._time_is_over()
        elif self._reading is not None and self._paused_since is None and now >= self._body_deadline():
            self._admission.refuse("slow_bodies", self._peer[0])
            self._refuse(_TOO_SLOW)

    def finish(self) -> None:
        if self._open:
            self._open[-1].keep_alive = False
        else:
            self._close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # The inner workings.

    def _took(self, exchange: Exchange, size: int) -> None:
        """Counts what arrived of a body, chunks and trailers too, and stops reading ahead of the application."""
        self._body_bytes += size
        exchange.unread += size
        if exchange.unread > self._bounds.unread_bytes and not exchange.waiting:
            self._pause()
        if self._body_bytes > OVERHEAD * self._bounds.body_bytes + self._bounds.unread_bytes:
            self._parser.refusal = self._parser.refusal or _TOO_LARGE

    def _answer_next(self) -> None:
        exchange = self._open[0]
        app = self._app
        if self._admission.is_full():
            self._admission.refuse("requests", self._peer[0])
            app = _busy
        task = asyncio.get_running_loop().create_task(self._run(app, exchange))
        self._admission.requests.add(task)
        task.add_done_callback(self._admission.requests.discard)

    async def _run(self, app: ASGIApp, exchange: Exchange) -> None:
        try:
            await app(exchange.scope, exchange.receive, exchange.send)
        except Exception as error:
            log.error("a request failed", path=exchange.scope["path"], exc_info=error)
        finally:
            if not (exchange.answered or exchange.gone):
                self.abort()  # what has begun cannot be ended rightly

    def _pause(self) -> None:
        if self._paused_since is None and self._transport is not None and not self._transport.is_closing():
            self._paused_since = self._admission.clock()
            self._transport.pause_reading()

    def _resume(self) -> None:
        """Reads on. The pause does not count as time of the body."""
        if self._paused_since is not None and self._transport is not None:
            self._body_since += self._admission.clock() - self._paused_since
            self._paused_since = None
            self._transport.resume_reading()

    def _body_deadline(self) -> float:
        allowed = self._bounds.body_seconds + self._body_bytes / self._bounds.body_bytes_per_second
        return self._body_since + allowed

    def _time_is_over(self) -> None:
        if self._parser.stopped:
            self.abort()
        elif self._parser.in_head and self._parser.head_bytes:
            self._admission.refuse("slow_headers", self._peer[0])
            self._refuse(_TOO_SLOW)
        else:
            self._close()

    def _refuse(self, problem: Problem) -> None:
        """Refuses the request that is being read, after the answers to earlier ones."""
        self._parser.stop()
        reading, self._reading = self._reading, None
        if reading is not None:
            self._open.pop()
            reading.lose()
        if reading is not None and reading.started:
            self.abort()
        elif self._open:
            self._owed = problem
        else:
            self._say(problem)
            self._linger()

    def _say(self, problem: Problem) -> None:
        response = problem.response()
        lines = b"".join(b"%b: %b\r\n" % header for header in response.raw_headers)
        head = b"HTTP/1.1 %d %b\r\n" % (problem.status, problem.title.encode())
        self.write(head + self.date() + lines + CLOSE + b"\r\n" + bytes(response.body))

    def _linger(self) -> None:
        """Throws away what still arrives, for a while: closing before the request has ended would lose the answer."""
        self._parser.stop()
        self._lingering = True
        self._reading = None
        self._body_bytes = 0
        self._deadline = self._admission.clock() + self._bounds.linger_seconds
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()
        self._resume()

    def _throw_away(self, size: int) -> None:
        self._body_bytes += size
        if self._lingering and self._body_bytes > self._bounds.linger_bytes:
            self.abort()

    def _close(self) -> None:
        """Closes the connection when all that was written is sent."""
        self._parser.stop()
        self._deadline = self._admission.clock() + CLOSING_SECONDS
        if self._transport is not None:
            self._transport.close()


async def _busy(scope: Scope, receive: Receive, send: Send) -> None:
    problem = Problem(503, "OVERLOADED", "There are too many requests at once; send it again.", retry_after=1.0)
    await problem.response()(scope, receive, send)
