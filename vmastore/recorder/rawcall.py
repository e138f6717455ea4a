"""System calls that Python has no function for."""

from __future__ import annotations

import ctypes
import os
from typing import Any


def raw_call(number: int, *args: Any) -> int:
    """The answer of a system call; integers are passed as long. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in args]
    answer = libc.syscall(ctypes.c_long(number), *words)
    if answer < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(answer)
