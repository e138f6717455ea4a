"""The kernel's perf records (perf_event_open(2)), as faults and locks."""

from __future__ import annotations

import struct

from vmastore.importers.faults import TASK_SIZE_MAX, WRITE, Fault, Locked
from vmastore.recorder.marks import Mark
from vmastore.recorder.perf import Layout

_LOST, _SAMPLE, _LOST_SAMPLES = 2, 9, 13  # perf_event_header.type
_HEADER = struct.Struct("=IHH")  # type, misc, size
_SOFTWARE = struct.Struct("=IIQQ")  # pid, tid, time, addr
_RAW = struct.Struct("=IIQIH")  # pid, tid, time, size of the raw data, its common_type
_RAW_AT = 20  # where the raw data begins, from the end of the header
_WORD = struct.Struct("=Q")


class Decoder:
    """Reads whole records; what the kernel could not hand over is counted."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.lost = 0

    def marks(self, data: bytes) -> list[Mark]:
        """The faults and locks of `data`, in its order, with the times of the layout's clock."""
        out: list[Mark] = []
        software = not self._layout.mode.tells_writes
        at, end = 0, len(data)
        while at < end:
            kind, _, size = _HEADER.unpack_from(data, at)
            if kind == _SAMPLE:
                mark = self._software(data, at + 8) if software else self._traced(data, at + 8)
                if mark is not None:
                    out.append(mark)
            elif kind == _LOST:
                self.lost += _WORD.unpack_from(data, at + 16)[0]
            elif kind == _LOST_SAMPLES:
                self.lost += _WORD.unpack_from(data, at + 8)[0]
            at += size
        return out

    def _software(self, data: bytes, at: int) -> Mark | None:
        pid, tid, time_ns, addr = _SOFTWARE.unpack_from(data, at)
        return Fault(time_ns, pid, tid, addr, None, "user") if addr < TASK_SIZE_MAX else None

    def _traced(self, data: bytes, at: int) -> Mark | None:
        pid, tid, time_ns, _, number = _RAW.unpack_from(data, at)
        kind, addr_at, code_at = self._layout.kinds[number]
        if kind == "lock":
            return Locked(time_ns, pid, tid)
        raw = at + _RAW_AT
        addr = _WORD.unpack_from(data, raw + addr_at)[0]
        if addr >= TASK_SIZE_MAX:
            return None
        code = _WORD.unpack_from(data, raw + code_at)[0]
        return Fault(time_ns, pid, tid, addr, "w" if code & WRITE else "r", kind)
