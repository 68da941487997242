"""Settings of the context service."""

from services.runtime.settings import Settings


class ContextSettings(Settings):
    """`PARLEY_CONTEXT_...`, besides those of every service."""

    context_port: int = 50051
    """gRPC port; 0 for any free one."""
    context_memory_entries: int = 50
    """Conversations, and as many contacts, that one process keeps in memory. The least recently read goes first."""
    context_memory_seconds: float = 300.0
    """How long an entry stays in memory at most."""
    context_dialog_seconds: int = 30 * 86400
    """How long the dialog namespace is kept, unless the save says otherwise."""
    context_messages_seconds: int = 86400
    """How long the messages namespace is kept."""
    context_client_seconds: int = 86400
    """How long the client namespace is kept."""
    context_preferences_seconds: int = 365 * 86400
    """How long the preferences namespace is kept."""
    context_redis_timeout_seconds: float = 0.05
    """How long Redis may take before a call goes on without it."""
