"""How the context service tells, through Redis, which documents have changed: its own processes, and dialog's.

Two channels carry the same words. Its own processes hear of every save. Who keeps what a lane of dialog has read hears
only of what others than dialog's lanes have changed, since a lane's own row tells it of saves by lanes; and, every
second, that there is somebody who would tell.
"""

from typing import NamedTuple
from uuid import UUID

CONVERSATION, CONTACT = "d", "p"
"""Kinds of documents (`d` for dialog, `p` for person)."""
HEARTBEAT = b""
HEARTBEAT_SECONDS = 1.0


class Change(NamedTuple):
    """A document that has a new version, or none any more below that version."""

    kind: str
    tenant_id: str
    id: UUID
    version: int


def every_save(prefix: str) -> str:
    """The channel of the context service's own processes."""
    return f"{prefix}:context:changed"


def beside_lanes(prefix: str) -> str:
    """The channel of what others than dialog's lanes have changed."""
    return f"{prefix}:context:changed-beside-lanes"


def name_of(kind: str, tenant_id: str, identifier: UUID) -> str:
    """What names a document everywhere."""
    return f"{kind}:{tenant_id}/{identifier}"


def lines(publication: bytes) -> list[bytes]:
    """The lines of a publication, one for each change."""
    return publication.split(b"\n")


def parse(line: bytes) -> Change:
    """The change that a line tells of: a version, a space, and the document's name. Raises ValueError."""
    version, _, name = line.decode().partition(" ")
    kind, _, key = name.partition(":")
    tenant_id, _, identifier = key.partition("/")
    if kind not in (CONVERSATION, CONTACT):
        raise ValueError(f"no kind of document: {kind!r}")
    return Change(kind, tenant_id, UUID(identifier), int(version))
