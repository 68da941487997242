"""Queues per conversation, leased and fenced: order, one turn in flight, and many workers on many hosts."""

from services.runtime.lanes.dispatcher import Dispatcher, HasLease
from services.runtime.lanes.guard import Guard
from services.runtime.lanes.lookback import Lookback
from services.runtime.lanes.shares import FREE_FOR_ALL, Fairness, Room
from services.runtime.lanes.store import Connection, Lanes, lease_of, settle_columns
from services.runtime.lanes.timers import Timer
from services.runtime.lanes.types import Append, Found, Held, Lease, LeaseLost, Priority, Settle

__all__ = [
    "FREE_FOR_ALL",
    "Append",
    "Connection",
    "Dispatcher",
    "Fairness",
    "Found",
    "Guard",
    "HasLease",
    "Held",
    "Lanes",
    "Lease",
    "LeaseLost",
    "Lookback",
    "Priority",
    "Room",
    "Settle",
    "Timer",
    "lease_of",
    "settle_columns",
]
