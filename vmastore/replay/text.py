"""An event as a line of text, near to how strace prints it."""

from __future__ import annotations

from vmastore.events import Event
from vmastore.replay.world import answer

_HEX = {"addr", "new_addr", "offset"}
_PROT = ((1, "READ"), (2, "WRITE"), (4, "EXEC"))
ADVICE_NAMES = {
    0: "NORMAL", 1: "RANDOM", 2: "SEQUENTIAL", 3: "WILLNEED", 4: "DONTNEED", 8: "FREE", 9: "REMOVE",
    10: "DONTFORK", 11: "DOFORK", 12: "MERGEABLE", 13: "UNMERGEABLE", 14: "HUGEPAGE", 15: "NOHUGEPAGE",
    16: "DONTDUMP", 17: "DODUMP", 18: "WIPEONFORK", 19: "KEEPONFORK", 20: "COLD", 21: "PAGEOUT",
    22: "POPULATE_READ", 23: "POPULATE_WRITE", 24: "DONTNEED_LOCKED", 25: "COLLAPSE",
    102: "GUARD_INSTALL", 103: "GUARD_REMOVE",
}  # fmt: skip


def call_text(event: Event) -> str:
    """`mprotect(0x7f…, 4096, READ|WRITE) = 0`."""
    from vmastore.events import CALLS

    if event.call == "maps":
        return f"maps ({event.args[0]}: {event.args[1]} VMAs observed)"
    names = CALLS.get(event.call, ())
    parts = [_arg(names[n] if n < len(names) else "", value) for n, value in enumerate(event.args)]
    while parts and parts[-1] == "None":
        parts.pop()
    text = f"{event.call}({', '.join(parts)})"
    if event.result is None and not event.errno:
        return text
    return f"{text} = {answer(event.result, event.errno)}" + (" (injected)" if event.injected else "")


def _arg(name: str, value: object) -> str:
    if isinstance(value, int):
        if name in _HEX:
            return hex(value) if value else "0"
        if name == "prot":
            return "|".join(text for bit, text in _PROT if value & bit) or "NONE"
        if name == "advice":
            return ADVICE_NAMES.get(value, str(value))
        if name == "flags" and value > 9:
            return hex(value)
    return repr(value) if isinstance(value, str) and name in ("path", "name") else str(value)
