"""Signals and strace's own notes."""

from __future__ import annotations

import re

from vmastore.events.types import Arg
from vmastore.importers.strace import constants

_SIGNAL = re.compile(rb"--- (?:stopped by )?(?P<name>SIG[A-Z0-9_+]+|signal \d+)(?P<info> \{.*\})? ---")
_CODE = re.compile(rb"\bsi_code=(\w+)")
_ADDR = re.compile(rb"\bsi_addr=(NULL|0x[0-9a-f]{1,16})")
_THREADS = re.compile(rb" attached with (\d{1,7}) threads")


def signal_args(text: bytes) -> tuple[Arg, Arg, Arg]:
    """signo, code and addr of ``--- SIGSEGV {...} ---``; the code of a group-stop is "stopped"."""
    match = _SIGNAL.match(text)
    if not match:
        return None, None, None
    name = match["name"].decode()
    number = constants.SIGNALS.get(name)
    if not match["info"]:
        return number, "stopped" if b"stopped by" in text else None, None
    code, addr = _CODE.search(match["info"]), _ADDR.search(match["info"])
    address = None if addr is None else 0 if addr[1] == b"NULL" else int(addr[1], 16)
    return number, code[1].decode() if code else None, address


def attach_threads(text: bytes) -> int:
    """How many threads strace says it attached to; they share one address space."""
    match = _THREADS.search(text)
    return int(match[1]) if match else 1
