"""Long loops over many events."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_YOUNG = 100_000  # containers made and kept before the cycle collector looks


@contextmanager
def bulk_work() -> Iterator[None]:
    """Let the cycle collector look once in 100,000 new containers, not in 700: a fold makes few cycles.

    It stays on, so that memory does not grow with what little there is to collect.
    """
    before = gc.get_threshold()
    if 0 < before[0] < _YOUNG:
        gc.set_threshold(_YOUNG, before[1], before[2])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextmanager
def few_cycles() -> Iterator[None]:
    """Keep the cycle collector off: for work that makes many objects, few of them garbage, and soon ends."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
