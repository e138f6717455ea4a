"""Recording programs: strace for the calls, perf for the page faults, /proc for the truth to check against."""

from vmastore.recorder.faulted import FaultedLog
from vmastore.recorder.plan import of_command, of_process
from vmastore.recorder.proc import snapshot
from vmastore.recorder.record import Recording, attach, record
from vmastore.recorder.result import Cost
from vmastore.recorder.session import Progress
from vmastore.recorder.stream import Live
from vmastore.recorder.trace import RecordedTrace

__all__ = [
    "Cost",
    "FaultedLog",
    "Live",
    "Progress",
    "RecordedTrace",
    "Recording",
    "attach",
    "of_command",
    "of_process",
    "record",
    "snapshot",
]
