"""Hears which contexts others than dialog's lanes have changed."""

from collections.abc import Callable

from services.dialog.kept_contexts import KeptContexts
from services.runtime.background import following
from services.runtime.context_changes import HEARTBEAT, beside_lanes, lines, parse
from services.runtime.logs import describe, get_logger
from services.runtime.redis import Client, hear

log = get_logger(__name__)

SILENCE_SECONDS = 2.5
"""Without a heartbeat for so long nobody is there who would tell of changes, or nothing arrives here."""


class ContextChanges:
    """Tells the kept contexts of changes, and whether they may be believed."""

    def __init__(self, redis: Client, prefix: str, kept: KeptContexts) -> None:
        self._redis = redis
        self._channel = beside_lanes(prefix)
        self._kept = kept
        self._hears = False
        self.listen = following(self._channel, self._follow)

    async def _follow(self, stands: Callable[[], None]) -> None:
        await hear(
            self._redis,
            self._channel,
            quiet=SILENCE_SECONDS,
            stands=stands,
            heard=self._take,
            silent=self._deaf,
            ended=self._deaf,
        )

    def _take(self, publication: bytes) -> None:
        if publication == HEARTBEAT:
            if not self._hears:
                self._hears = True
                self._kept.hears()
            return
        try:
            for change in [parse(line) for line in lines(publication)]:
                self._kept.told(change)
        except ValueError as error:
            # It may tell of anything: a newer version of context, or somebody else in a Redis that is shared.
            self._kept.hears()
            log.warning("a change is not understood", channel=self._channel, error=describe(error))

    def _deaf(self) -> None:
        self._hears = False
        self._kept.deaf()
