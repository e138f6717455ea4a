"""The addresses that an event's arguments name: reading them, and putting others in their place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vmastore.events import Event
from vmastore.mm.flags import PAGE_SIZE, TASK_SIZE
from vmastore.syscalls.uapi import MREMAP_DONTUNMAP, MREMAP_FIXED, PR_SET_VMA

# call -> positions of (start, length); a fault's and a system call's alike
RANGES: dict[str, tuple[int, int]] = {
    "mmap": (0, 1),
    "mmap2": (0, 1),
    "munmap": (0, 1),
    "mprotect": (0, 1),
    "pkey_mprotect": (0, 1),
    "madvise": (0, 1),
    "mlock": (0, 1),
    "mlock2": (0, 1),
    "munlock": (0, 1),
    "mbind": (0, 1),
    "set_mempolicy_home_node": (0, 1),
    "remap_file_pages": (0, 1),
    "mseal": (0, 1),
    "fault": (0, 1),
    "ioctl": (2, 3),
    "prctl": (2, 3),
    "shmat": (1, 3),
}
_POINTS: dict[str, int] = {"shmdt": 0, "stack_grow": 0, "brk": 0}

Move = Callable[[int], int]


def page_up(value: int) -> int:
    return (value + PAGE_SIZE - 1) & -PAGE_SIZE


def page_down(value: int) -> int:
    return value & -PAGE_SIZE


def has_range(event: Event) -> bool:
    """Whether the event's (start, length) arguments are a range of addresses."""
    if event.call == "prctl":
        return event.args[0] == PR_SET_VMA and len(event.args) > 3
    if event.call == "ioctl":
        return len(event.args) > 3 and isinstance(event.args[2], int) and isinstance(event.args[3], int)
    return event.call in RANGES


def spans(event: Event) -> list[tuple[int, int]]:
    """Each [start, end) that the arguments name, in whole pages."""
    args = event.args
    if event.call == "mremap":
        found = [(args[0], args[0] + max(args[1], args[2], 1))]
        if args[3] & (MREMAP_FIXED | MREMAP_DONTUNMAP) and len(args) > 4 and args[4]:
            found.append((args[4], args[4] + max(args[2], 1)))
    elif event.call == "process_madvise":
        found = [(start, start + length) for start, length in args[1] or ()]
    elif event.call in _POINTS:
        found = [(args[0], args[0] + 1)] if args[0] else []
    elif has_range(event):
        at, size = RANGES[event.call]
        start, length = args[at], args[size]
        if not isinstance(start, int) or not start:
            return []
        found = [(start, start + max(length or 0, 1))]
    else:
        return []
    return [(page_down(start), page_up(end)) for start, end in found]


def moved(event: Event, move: Move) -> Event:
    """The event with `move` applied to both ends of each range, so that lengths follow.

    A length that was no multiple of a page keeps its remainder.
    """
    args = list(event.args)
    if event.call == "mremap":
        start = args[0]
        args[0] = _at(start, move)
        args[1], args[2] = _length(start, args[1], move), _length(start, args[2], move)
        if len(args) > 4 and args[4]:
            args[4] = _at(args[4], move)
    elif event.call == "process_madvise":
        args[1] = [[_at(start, move), _length(start, length, move)] for start, length in args[1] or ()]
    elif event.call in _POINTS:
        args[0] = _at(args[0], move) if args[0] else args[0]
    elif has_range(event):
        at, size = RANGES[event.call]
        start, length = args[at], args[size]
        if isinstance(start, int) and start:
            args[at] = _at(start, move)
            if isinstance(length, int):
                args[size] = _length(start, length, move)
    return event._replace(args=tuple(args))


def _at(addr: int, move: Move) -> int:
    """Where an address goes, its place within the page kept. One that no process can have stays."""
    page = page_down(addr)
    return move(page) + (addr - page) if page < TASK_SIZE else addr


def _length(start: int, length: int, move: Move) -> int:
    if length <= 0 or start + length > TASK_SIZE:
        return length
    page = page_down(start)
    end = page_up(start + length)
    return (move(end) - move(page)) - (end - page - length)


def arguments(event: Event, **changes: Any) -> Event:
    """The event with some arguments, by name, changed."""
    from vmastore.events import CALLS

    names = CALLS[event.call]
    args = list(event.args)
    for name, value in changes.items():
        args[names.index(name)] = value
    return event._replace(args=tuple(args))
