"""What a process measures of itself, and how others get it.

A service declares its instruments in its `metrics.py`, and wiring says what they read: plain numbers that are counted
anyway. Nothing is computed until somebody asks for the page of the process or it is time to send it by OTLP.
"""

from services.runtime.metrics.instruments import Counter, Gauge, Instrument, Metrics, Times

__all__ = ["Counter", "Gauge", "Instrument", "Metrics", "Times"]
