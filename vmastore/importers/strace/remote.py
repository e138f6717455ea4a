"""What a process writes into another one: process_vm_writev, whose log shows where and how much."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vmastore.importers.processes import Thread
from vmastore.importers.strace.arguments import parse
from vmastore.importers.strace.joiner import Called
from vmastore.importers.strace.scan import Unparsed
from vmastore.importers.strace.tokens import items_of
from vmastore.importers.strace.tracker import Handler, Tracker
from vmastore.importers.strace.values import INT, SIGNED
from vmastore.mm.flags import PAGE_MASK, PAGE_SIZE

_PART = re.compile(rb"\{iov_base=(?P<addr>\w+), iov_len=(?P<length>\w+)\}\Z")
_OUTER = re.compile(rb"/\* (\d{1,7}) in strace's PID NS \*/")


def _process_vm_writev(tracker: Tracker, thread: Thread, call: Called) -> None:
    """The call, and behind it an access to each page that it has written, if the log knows the process."""
    tracker.event(thread, call, parse(call.name, call.tokens))
    result = call.result
    if result.errno or result.injected or not result.value or len(call.tokens) < 4:
        return
    target = tracker.processes.threads.get(_pid(call.first))
    if target is None or not target.mm:
        return
    for addr, length in _written(call.tokens[3], result.value):
        start = addr & PAGE_MASK
        tracker.fetched(target, call, start, (addr + length - start + PAGE_SIZE - 1) & PAGE_MASK)


def _pid(token: bytes) -> int:
    """The process in the log's numbers; 0: not shown."""
    outer = _OUTER.search(token)
    try:
        return int(outer[1]) if outer else SIGNED[token]
    except Unparsed:
        return 0


def _written(vector: bytes, total: int) -> Iterator[tuple[int, int]]:
    """(address, length) of the first `total` bytes of a vector, as far as it is shown."""
    for item in items_of(vector) or ():
        part = _PART.match(item)
        if part is None or not total:  # "...", or an address that could not be read
            return
        addr, length = INT[part["addr"]], min(INT[part["length"]], total)
        total -= length
        if length:
            yield addr, length


REMOTE_CALLS: dict[str, Handler] = {"process_vm_writev": _process_vm_writev}
