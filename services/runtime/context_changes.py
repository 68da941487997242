"""The form in which the context service announces changed documents through Redis, to its own processes and dialog's.

There are two channels. Processes of context hear of every save. Processes that keep what a lane of dialog has read hear
only of saves that did not come from a lane, as the lane's own row has the version of those; and every second they get a
heartbeat, so that they know that they would be told.
"""

from typing import NamedTuple
from uuid import UUID

CONVERSATION, CONTACT = "d", "p"
"""Kinds of documents (`d` for dialog, `p` for person)."""
HEARTBEAT = b""
HEARTBEAT_SECONDS = 1.0


class Change(NamedTuple):
    """A document that has a new version; older versions no longer hold."""

    kind: str
    tenant_id: str
    id: UUID
    version: int


def every_save(prefix: str) -> str:
    """Returns the channel for the processes of the context service."""
    return f"{prefix}:context:changed"


def beside_lanes(prefix: str) -> str:
    """Returns the channel for saves that did not come from a lane of dialog."""
    return f"{prefix}:context:changed-beside-lanes"


def name_of(kind: str, tenant_id: str, identifier: UUID) -> str:
    """Returns the name of a document, in Redis and in announcements."""
    return f"{kind}:{tenant_id}/{identifier}"


def lines(publication: bytes) -> list[bytes]:
    """Splits a publication into lines, one for each change."""
    return publication.split(b"\n")


def parse(line: bytes) -> Change:
    """Reads a line: a version, a space, and the document's name. Raises ValueError."""
    version, _, name = line.decode().partition(" ")
    kind, _, key = name.partition(":")
    tenant_id, _, identifier = key.partition("/")
    if kind not in (CONVERSATION, CONTACT):
        raise ValueError(f"no kind of document: {kind!r}")
    return Change(kind, tenant_id, UUID(identifier), int(version))
