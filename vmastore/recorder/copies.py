"""What calls like read have written to the memory of their process, by strace's raw lines.

Where page faults do not tell writes from reads, or show the kernel's own accesses, these calls are traced as
well. They are no events of their own; what they have written is a `fault` event of the source "kernel".
Calls that take a vector (readv, recvmsg, …) are not: strace shows where the vector is, not where its parts are.
"""

from __future__ import annotations

import re

_BUFFERS = {  # which argument is the buffer; the result is how many bytes were written to it
    "read": 1,
    "pread64": 1,
    "recvfrom": 1,
    "getrandom": 0,
    "getdents64": 1,
    "getcwd": 0,
    "readlink": 1,
    "readlinkat": 2,
}
# as strace is to be told: not every architecture has all of them
COPYING = "read,pread64,recvfrom,?getrandom,getdents64,getcwd,?readlink,readlinkat"
_RESULT = re.compile(rb"\) += 0x([0-9a-f]+)(?: <[\d.]+>)?\Z")
_ARGS = re.compile(rb"\d+ +\S+ \w+\(((?:0x[0-9a-f]+|\d+)(?:, (?:0x[0-9a-f]+|\d+))*)")


def is_copy(name: str) -> bool:
    """Whether a call is one of these."""
    return name in _BUFFERS


class Copies:
    """Puts the two lines of a call together where it has two."""

    def __init__(self) -> None:
        self._begun: dict[int, int] = {}  # by thread: the buffer of its call

    def written(self, tid: int, name: str, text: bytes, *, begins: bool, ends: bool) -> tuple[int, int] | None:
        """(address, length) of what the call of a line has written; None: nothing, or the line does not tell."""
        if ends:
            buffer = self._begun.pop(tid, None)
        else:
            buffer = _argument(text, _BUFFERS[name])
            if begins:
                if buffer is not None:
                    self._begun[tid] = buffer
                return None
        found = _RESULT.search(text)
        if found is None or buffer is None:
            return None
        length = int(found[1], 16)
        return (buffer, length) if length else None


def _argument(text: bytes, number: int) -> int | None:
    found = _ARGS.match(text)
    words = found[1].split(b", ") if found else []
    return int(words[number], 0) if number < len(words) else None
