"""The edge's HTTP/1.1 server: ASGI over the parser of `httptools`, with bounds on all that a stranger can send.

Its reasons and measurements stand in docs/decisions/0020-the-edge-has-its-own-http-server.md.
"""
