"""The tables of delivery that are partitioned by time, and the rows that outlive their partition: those that are still
to be sent, or that dialog is still to be told of.
"""

from services.runtime.partitions import Partitions, Table

DELIVERIES = Table(
    "deliveries",
    "delivery_id",
    7,
    """EXISTS (SELECT FROM delivery.lanes AS lane
            WHERE lane.lane_id = item.lane_id AND lane.pending > 0 AND item.seq > lane.done_seq)
        OR EXISTS (SELECT FROM delivery.outcomes AS outcome WHERE outcome.delivery_id = item.delivery_id)""",
)
PROVIDER_IDS = Table("provider_ids", "delivery_id", 7)

PARTITIONS = Partitions("delivery", (DELIVERIES, PROVIDER_IDS))
