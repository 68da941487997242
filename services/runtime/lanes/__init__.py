"""Queues per conversation, leased and fenced: order, one turn in flight, and many workers on many hosts."""

from services.runtime.lanes.dispatcher import Dispatcher, HasLease
from services.runtime.lanes.guard import Guard
from services.runtime.lanes.store import Connection, Lanes
from services.runtime.lanes.types import Append, Held, Lease, LeaseLost, Settle

__all__ = [
    "Append",
    "Connection",
    "Dispatcher",
    "Guard",
    "HasLease",
    "Held",
    "Lanes",
    "Lease",
    "LeaseLost",
    "Settle",
]
