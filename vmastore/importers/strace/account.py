"""What became of every line: an event, a part of one, or a counted skip."""

from __future__ import annotations

from vmastore.errors import InputError
from vmastore.importers.base import Skip

_MAX_ROWS = 100_000  # of the table of skips; what comes after is counted by its reason alone


class Account:
    """Counts of one log.

    lines = events' lines + halves + frames + skipped lines; `unaccounted` counts lines that are none
    of these, and is 0 unless the importer has a fault.
    """

    def __init__(self) -> None:
        self.lines = 0  # of the log
        self.halves = 0  # lines joined into another line's event (entry halves, cut calls)
        self.frames = 0  # stack frames
        self.recorded = 0  # lines that gave events
        self.skipped_lines = 0
        self.unaccounted = 0
        self.strict: str | None = None  # the input's name: the first skip is an error
        self._skips: dict[tuple[int | None, str | None, str], list[int]] = {}

    def skip_line(self, tid: int | None, call: str | None, reason: str, line: int) -> None:
        """Count a line that becomes no event."""
        self.skipped_lines += 1
        self.skip_call(tid, call, reason, line)

    def reject_line(self, tid: int | None, call: str | None, reason: str, line: int) -> None:
        """Count a line that was taken for an event's and is none."""
        self.recorded -= 1
        self.skip_line(tid, call, reason, line)

    def skip_call(self, tid: int | None, call: str | None, reason: str, line: int) -> None:
        """Count a call that becomes no event, whose lines are counted already."""
        if self.strict is not None:
            what = f"{reason}: {call}" if call else reason
            raise InputError(
                f"{self.strict}:{line}: {what}: becomes no event (--strict)",
                hint="Without --strict such lines are counted, and the import goes on where it stopped.",
            )
        key = tid, call, reason
        if key not in self._skips and len(self._skips) >= _MAX_ROWS:
            key = None, None, reason
        self._skips.setdefault(key, [line, 0])[1] += 1

    def skips(self) -> list[Skip]:
        """One entry per thread, call and reason, in the order of their first line."""
        rows = [Skip(tid, call, reason, *entry) for (tid, call, reason), entry in self._skips.items()]
        return sorted(rows, key=lambda row: row.source_line or 0)
