"""What happened when: a result as series over time, and as a trace to look at in Perfetto."""

from simulator.timeline.perfetto import write_perfetto
from simulator.timeline.series import series

__all__ = ["series", "write_perfetto"]
