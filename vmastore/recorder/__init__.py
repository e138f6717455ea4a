"""Recording programs: strace for the calls, perf for the page faults, /proc for the truth to check against."""

from vmastore.recorder.faulted import FaultedLog
from vmastore.recorder.proc import snapshot
from vmastore.recorder.record import Cost, Recording, attach, record
from vmastore.recorder.session import Progress
from vmastore.recorder.trace import RecordedTrace

__all__ = ["Cost", "FaultedLog", "Progress", "RecordedTrace", "Recording", "attach", "record", "snapshot"]
