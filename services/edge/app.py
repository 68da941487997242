"""The edge's routes."""

from collections.abc import Sequence

import structlog
from starlette.exceptions import HTTPException
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.edge.chat import Chat
from services.edge.documentation import routes as documentation
from services.edge.health import Health
from services.edge.problems import Problem
from services.edge.webhooks import Webhook

log = structlog.get_logger()


def make_app(webhooks: Sequence[Webhook], chat: Chat, health: Health) -> ASGIApp:
    """The ASGI application. Hot routes come first, as they are matched in order."""
    router = Router(
        routes=[
            *(Route(path, webhook) for webhook in webhooks for path in webhook.paths),
            Route("/v1/chat/send", chat.send, methods=["POST"]),
            Route("/v1/chat/stream", chat.stream, methods=["POST"]),
            Route("/health/live", health.live),
            Route("/health/ready", health.ready),
            Route("/health", health.overview),
            Route("/openapi.json", documentation.openapi),
            Route("/docs", documentation.docs),
            Route("/redoc", documentation.to_docs),
            Route("/", documentation.info),
        ],
        redirect_slashes=False,
        default=_not_found,
    )
    return _Problems(router)


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    problem = Problem(404, "ROUTE_NOT_FOUND", "There is nothing here; /docs lists what there is.")
    await problem.response()(scope, receive, send)


class _Problems:
    """Answers what handlers raise as problem documents."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self  # then routes raise for a wrong method rather than answer
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
            return
        except Problem as raised:
            problem = raised
        except HTTPException as error:
            reason = "WRONG_HTTP_METHOD" if error.status_code == 405 else "INVALID_HTTP"
            problem = Problem(error.status_code, reason, error.detail)
        except Exception:
            if begun:
                raise
            log.exception("a request failed", path=scope["path"])
            problem = Problem(500, "INTERNAL", "Something went wrong on our side; the log has the trace id.")
        await problem.response()(scope, receive, send)
