"""Faults: what the stand-ins do wrong on command."""

from collections.abc import Collection
from typing import Any, Literal

import msgspec
from starlette.exceptions import HTTPException

LONGEST_SECONDS = 600.0

Kind = Literal["refuse", "status", "delay", "hang", "drop_after", "duplicate"]


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `POST /faults`."""

    provider: str
    kind: Kind
    status: int = 500
    code: str = ""
    message: str = ""
    retry_after: float | None = None
    seconds: float = 0.0
    count: int = 1
    skip: int = 0
    match: dict[str, str] = {}


class Fault(Order):
    """A fault in force: for the next `left` calls that match, or for all when it is negative."""

    id: int = 0
    left: int = 0
    hits: int = 0

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.retry_after is None else {"retry-after": f"{self.retry_after:g}"}


class Faults:
    """The faults in force. A call meets the first that matches it."""

    def __init__(self, messengers: Collection[str], others: Collection[str]) -> None:
        """The names of stand-ins: of those that send webhooks, and of the others."""
        self._messengers = messengers
        self._names = (*messengers, *others)
        self._faults: list[Fault] = []
        self._last_id = 0

    def __bool__(self) -> bool:
        return bool(self._faults)

    def add(self, order: Order) -> Fault:
        """Adds a fault. Raises HTTPException 400 for one that makes no sense."""
        if order.provider not in self._names:
            raise HTTPException(400, f"provider: must be {' or '.join(self._names)}")
        unknown = order.match.keys() - {"client_id", "text", "authorization"}
        if unknown:
            raise HTTPException(
                400, f"match: {', '.join(sorted(unknown))} is not known; client_id, text, authorization are"
            )
        if not 0 <= order.seconds <= LONGEST_SECONDS:
            raise HTTPException(400, f"seconds: must be from 0 to {LONGEST_SECONDS:g}")
        if order.kind == "status" and not 400 <= order.status <= 599:
            raise HTTPException(400, "status: must be from 400 to 599")
        if order.kind == "duplicate" and order.provider not in self._messengers:
            raise HTTPException(400, "kind: only webhooks are sent twice, those of messengers, by POST /say")
        self._last_id += 1
        left = order.count if order.count > 0 else -1
        fault = Fault(**msgspec.structs.asdict(order), id=self._last_id, left=left)
        fault.seconds = order.seconds or (LONGEST_SECONDS if order.kind == "hang" else 0.0)
        self._faults.append(fault)
        return fault

    def take(
        self, provider: str, *, client_id: str = "", text: str = "", authorization: str = "", webhook: bool = False
    ) -> Fault | None:
        """Returns the fault that this call, or this webhook to be sent, meets, and counts it as met."""
        values = {"client_id": client_id, "authorization": authorization}
        for fault in self._faults:
            if fault.provider != provider or (fault.kind == "duplicate") != webhook:
                continue
            if any(part not in text if name == "text" else part != values[name] for name, part in fault.match.items()):
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            fault.hits += 1
            fault.left -= 1
            if fault.left == 0:
                self._faults.remove(fault)
            return fault
        return None

    def shown(self) -> list[dict[str, Any]]:
        return [msgspec.to_builtins(fault) for fault in self._faults]

    def clear(self) -> int:
        """Removes all faults, and returns how many there were."""
        count = len(self._faults)
        self._faults.clear()
        return count
