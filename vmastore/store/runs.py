"""Runs of events as the bytes of `rolling_t`: the hash of all outcomes up to the last, and a mark of each event."""

from __future__ import annotations

import sys
from array import array
from typing import Any

from vmastore.errors import StoreError

RUN = 500  # events, but for the last run of a replay
_HASH = 8  # bytes


def packed(digest: bytes, marks: list[int]) -> bytes:
    """The payload of a run: its hash, then 4 bytes an event."""
    return digest + _little(array("I", marks)).tobytes()


def _little(marks: array[int]) -> array[int]:
    if sys.byteorder == "big":
        marks.byteswap()
    return marks


def _unpacked(payload: bytes) -> tuple[bytes, array[int]]:
    marks = array("I")
    marks.frombytes(payload[_HASH:])
    return payload[:_HASH], _little(marks)


def first_unlike(connection: Any, one: int, two: int, last: int) -> int | None:
    """The first event up to `last` whose outcome differs between two stored replays; None: none does.

    Bisection over the hashes of runs, 2 look-ups a step, then over the marks of one run. Raises StoreError where
    a run is not there.
    """

    def run(replay: int, number: int) -> tuple[bytes, array[int]]:
        first = number * RUN + 1
        row = connection.exec_driver_sql(
            "SELECT payload FROM rolling_t WHERE replay=? AND first_seq=?", (replay, first)
        ).fetchone()
        digest, marks = (b"", array("I")) if row is None or len(row[0]) % 4 else _unpacked(bytes(row[0]))
        if len(marks) < min(RUN, last - first + 1):
            raise StoreError(f"replay {replay} has no hash of its outcome {first}", hint="run `vmastore db rebuild`")
        return digest, marks

    # the first run that differs is in [low, high]: the last one may be longer in one of them, and is then no judge
    low, high = 0, (last - 1) // RUN
    while low < high:
        middle = (low + high) // 2
        if run(one, middle)[0] == run(two, middle)[0]:
            low = middle + 1
        else:
            high = middle
    (digest, marks), (other, others) = run(one, low), run(two, low)
    first = low * RUN + 1
    for n, (mark, against) in enumerate(zip(marks, others, strict=False)):
        if mark != against and first + n <= last:
            return first + n
    # marks have 32 bits: the hash, which has 64, knows of a difference that they do not show
    whole = len(marks) == len(others) and first + len(marks) - 1 <= last
    return first if whole and digest != other else None
