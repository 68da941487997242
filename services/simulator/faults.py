"""What goes wrong on command."""

from collections.abc import Collection
from dataclasses import asdict, dataclass, field
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


@dataclass
class Fault:
    """One thing that goes wrong, for the next `left` calls that match (-1: for all)."""

    id: int
    provider: str
    kind: Kind
    status: int
    code: str
    message: str
    retry_after: float | None
    seconds: float
    left: int
    skip: int
    match: dict[str, str] = field(default_factory=dict)
    hits: int = 0

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.retry_after is None else {"retry-after": f"{self.retry_after:g}"}


class Faults:
    """The faults that are in force; the first that matches a call is taken."""

    def __init__(self, messengers: Collection[str], others: Collection[str]) -> None:
        """The names of stand-ins: of those that send webhooks, and of the others."""
        self._messengers = messengers
        self._names = (*messengers, *others)
        self._faults: list[Fault] = []
        self._last_id = 0

    def __bool__(self) -> bool:
        return bool(self._faults)

    def add(self, order: Order) -> Fault:
        """Raises HTTPException 400 for what makes no sense."""
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
        fault = Fault(
            id=self._last_id,
            provider=order.provider,
            kind=order.kind,
            status=order.status,
            code=order.code,
            message=order.message,
            retry_after=order.retry_after,
            seconds=order.seconds or (LONGEST_SECONDS if order.kind == "hang" else 0.0),
            left=order.count if order.count > 0 else -1,
            skip=order.skip,
            match=order.match,
        )
        self._faults.append(fault)
        return fault

    def take(
        self, provider: str, *, client_id: str = "", text: str = "", authorization: str = "", webhook: bool = False
    ) -> Fault | None:
        """The fault that this call, or webhook to be sent, meets; it is used up by one."""
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
        return [asdict(fault) for fault in self._faults]

    def clear(self) -> int:
        """Forget all; how many there were."""
        count = len(self._faults)
        self._faults.clear()
        return count
