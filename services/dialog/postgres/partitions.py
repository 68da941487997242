"""Which tables of dialog are kept in stretches of time, and what outlives its stretch: what a lane still waits for."""

from services.dialog.postgres.queries import SCHEMA
from services.runtime.partitions import Partitions, Table

_OPEN = """SELECT open.turn_id FROM dialog.lanes AS lane
    JOIN dialog.turns AS open ON open.conversation_id = lane.lane_id AND open.last_seq > lane.done_seq
    WHERE lane.pending > 0"""

MESSAGES = Table(
    "messages",
    "message_id",
    28,
    """EXISTS (SELECT FROM dialog.lanes AS lane
        WHERE lane.lane_id = item.conversation_id AND lane.pending > 0 AND item.seq > lane.done_seq)""",
)
TURNS = Table(
    "turns",
    "message_id",
    28,
    """EXISTS (SELECT FROM dialog.lanes AS lane
        WHERE lane.lane_id = item.conversation_id AND lane.pending > 0 AND item.last_seq > lane.done_seq)""",
)
REPLIES = Table("replies", "turn_id", 28)
JOURNAL = Table("journal", "turn_id", 7, f"item.turn_id IN ({_OPEN})")

PARTITIONS = Partitions(SCHEMA, (MESSAGES, TURNS, REPLIES, JOURNAL))
