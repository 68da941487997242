"""What the edge says of itself: `/`, `/openapi.json` and `/docs`."""

import re

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from services.edge.documentation.openapi import DOCUMENT
from services.edge.documentation.page import page as docs_page
from services.runtime.version import version

_ENCODED = msgspec.json.encode(DOCUMENT)
_HOST = re.compile(r"[a-zA-Z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9a-fA-F:]{2,45}\](:[0-9]{1,5})?")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"


async def info(request: Request) -> Response:
    """Answers with a page to browsers, and with JSON to everybody else."""
    if "text/html" in request.headers.get("accept", ""):
        return HTMLResponse(_page("Parley", _LANDING))
    body = {
        "name": "parley",
        "version": version(),
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
    """The OpenAPI document as a page. It runs no script and loads nothing."""
    html = _page("Parley: HTTP API", docs_page(base_of(request)))
    return HTMLResponse(html, headers={"cache-control": "no-store", "content-security-policy": _POLICY})


def base_of(request: Request) -> str:
    """The address by which the reader has reached this edge, if it looks like one."""
    host = request.headers.get("host", "")
    scheme = "https" if request.headers.get("x-forwarded-proto") == "https" else "http"
    return f"{scheme}://{host if _HOST.fullmatch(host) else '127.0.0.1:8080'}"


async def to_docs(request: Request) -> Response:
    """Redirects to `/docs` from where other frameworks have it."""
    return RedirectResponse("/docs")


_LANDING = """
<p>A mesh of typed gRPC services that answers people's chat messages and loses none. This is its edge: messengers
send their webhooks here.</p>
<ul><li><a href=/docs>HTTP API</a></li><li><a href=/health>Health</a></li></ul>
"""


def _page(title: str, body: str) -> str:
    return f"""<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>{title}</title><style>{_STYLE}</style><main><h1>{title}</h1>{body}</main></html>"""


_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; --line: #8884; --back: #8881;
  --post: #0a7a4b; --get: #1f5fbf; }
* { box-sizing: border-box; }
main { max-width: 54rem; margin: 2rem auto 4rem; padding: 0 1rem; }
h1 { margin: 0 0 .5rem; } h2 { margin: 2rem 0 .5rem; } h4 { margin: 1rem 0 .25rem; }
h3 { font-size: 1.05rem; margin: .75rem 0; overflow-wrap: anywhere; }
section { border: 1px solid var(--line); border-radius: .5rem; padding: .25rem 1rem 1rem; margin: 1.25rem 0; }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; }
.method { background: var(--get); color: #fff; border-radius: .25rem; padding: .1rem .4rem; font-size: .8rem; }
[id^=v1] .method, [id^=webhook] .method { background: var(--post); }
.auth { opacity: .85; }
code { font-size: .9em; overflow-wrap: anywhere; }
pre { background: var(--back); border: 1px solid var(--line); border-radius: .375rem; padding: .6rem .75rem;
  white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem; margin: .25rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line); }
td:first-child code { white-space: nowrap; }
th { font-weight: 600; opacity: .7; }
@media (max-width: 36rem) {
  tr { display: flex; flex-wrap: wrap; border-bottom: 1px solid var(--line); padding: .25rem 0; }
  th, td { border: 0; padding: 0 .75rem 0 0; }
  td:last-child { flex-basis: 100%; }
  th:last-child:empty { display: none; }
}
details { border-bottom: 1px solid var(--line); padding: .25rem 0; } summary { cursor: pointer; }
"""
