"""Times of a log's lines on one scale."""

from __future__ import annotations

from vmastore.importers.strace.lexer import Clock

DAY_NS = 86_400 * 10**9
_WRAP_NS = DAY_NS // 2


class TimeKeeper:
    """Turn the printed times into nanoseconds that grow.

    -ttt: since the epoch. -t and -tt: since the midnight before the log began (past the next
    midnight they go on). -r: since the start of the log.
    """

    def __init__(self) -> None:
        self._days = 0
        self._last = 0
        self._sum = 0

    def ns(self, clock: Clock | None, time_ns: int | None) -> int | None:
        """The time of the next line of the log."""
        if time_ns is None or clock is None:
            return None
        if clock is Clock.EPOCH:
            return time_ns
        if clock is Clock.PREVIOUS:
            self._sum += time_ns
            return self._sum
        if time_ns < self._last - _WRAP_NS:
            self._days += DAY_NS
        self._last = time_ns
        return self._days + time_ns
