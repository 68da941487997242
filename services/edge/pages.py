"""What the edge says of itself: `/`, `/openapi.json` and `/docs`."""

from html import escape
from importlib.metadata import PackageNotFoundError, version

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from services.edge.openapi import DOCUMENT

_ENCODED = msgspec.json.encode(DOCUMENT)


async def info(request: Request) -> Response:
    """Server info as JSON; a landing page for a browser."""
    if "text/html" in request.headers.get("accept", ""):
        return HTMLResponse(_page("Parley", _LANDING))
    body = {
        "name": "parley",
        "version": _version(),
        "service": "edge",
        "docs": "/docs",
        "openapi": "/openapi.json",
        "health": "/health",
    }
    return Response(msgspec.json.encode(body), media_type="application/json")


async def openapi(request: Request) -> Response:
    """The OpenAPI document."""
    return Response(_ENCODED, media_type="application/json")


async def docs(request: Request) -> Response:
    """The OpenAPI document as a page to read. It needs no script and nothing from elsewhere."""
    return HTMLResponse(_page("Parley: HTTP API", _operations()))


async def to_docs(request: Request) -> Response:
    """Where other frameworks keep theirs."""
    return RedirectResponse("/docs")


def _version() -> str:
    try:
        return version("parley")
    except PackageNotFoundError:
        return "0.1.0"


def _operations() -> str:
    parts = []
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            answers = "".join(
                f"<tr><td><code>{status}</code></td><td>{escape(answer['description'])}</td></tr>"
                for status, answer in operation["responses"].items()
            )
            parts.append(
                f"<section><h2><span class=method>{method.upper()}</span> <code>{escape(path)}</code></h2>"
                f"<p>{escape(operation['summary'])}</p><table>{answers}</table></section>"
            )
    return "<p>The same as <a href=/openapi.json>openapi.json</a>.</p>" + "".join(parts)


_LANDING = """
<p>A mesh of typed gRPC services that answers people's chat messages and loses none. This is its edge: messengers
send their webhooks here.</p>
<ul><li><a href=/docs>HTTP API</a></li><li><a href=/health>Health</a></li></ul>
"""


def _page(title: str, body: str) -> str:
    return f"""<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>{title}</title><style>{_STYLE}</style><main><h1>{title}</h1>{body}</main></html>"""


_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 46rem; margin: 3rem auto; padding: 0 1rem; }
section { border: 1px solid color-mix(in srgb, currentColor 20%, transparent); border-radius: .5rem;
  padding: .25rem 1rem 1rem; margin: 1rem 0; }
h2 { font-size: 1rem; overflow-wrap: anywhere; }
.method { background: #0a6; color: #fff; border-radius: .25rem; padding: .1rem .4rem; font-size: .8rem; }
td { padding: .15rem .75rem .15rem 0; vertical-align: top; }
"""
