"""Identifiers."""

import os
import time
from uuid import UUID, uuid5

_CONVERSATIONS = UUID("5f0d7a3e-5d0c-5c7e-9f53-0d6c52a8c8f1")


def uuid7() -> UUID:
    """A time-ordered random id (RFC 9562, version 7): 48 bits of Unix milliseconds, then 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | int.from_bytes(os.urandom(10), "big")
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return UUID(int=value)


def conversation_id(channel_id: str, chat_id: str) -> UUID:
    """The conversation of a provider's chat on a channel: the same ids always give the same conversation.

    Channel ids are unique over all tenants and hold no colon, so two chats never meet in one id.
    """
    return uuid5(_CONVERSATIONS, f"{channel_id}:{chat_id}")
