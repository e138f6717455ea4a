"""The child process: makes calls and prints, for each, what the kernel answered and the arena afterwards.

`python -m vmastore.conform.child SEED COUNT [SCRIPT]`, or `… 0 0 -` for calls given as JSON on standard
input; one JSON line a call.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from vmastore.conform.calls import SCRIPTS, Chooser, touches
from vmastore.conform.kernel import BASE, PAGE, Kernel, arena, syscall
from vmastore.conform.special import brk_battery, limit_battery

SPECIAL = {"brk": brk_battery, "map limit": limit_battery}
_CHILD_CALLS = 25  # that a child of a random sequence makes before it exits


def main() -> None:
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    script = sys.argv[3] if len(sys.argv) > 3 else None
    given = json.load(sys.stdin) if script == "-" else []
    kernel = Kernel()
    _, missing = syscall(462, BASE, 0, 0)
    facts = {"uffd": kernel.uffd is not None, "mseal": missing == 0, "anon_name": _names(kernel)}
    facts["shm"] = kernel.segment is not None
    if script in SPECIAL:
        more, steps = SPECIAL[script](kernel)
        _print({**facts, **more})
        for step in steps:
            _print(step)
        return
    _print(facts)
    if script == "-":
        _repeat(kernel, given, 1)
    elif script is not None:
        for name, args in SCRIPTS[script]:
            _step(kernel, 1, name, args)
    else:
        _random(kernel, Chooser(seed, uffd=facts["uffd"], mseal=facts["mseal"], shm=facts["shm"]), count)


def _random(kernel: Kernel, chooser: Chooser, count: int) -> None:
    lines = arena()
    for _ in range(count):
        name, args = chooser.next(lines)
        if name == "fork":
            number = args[1]
            if _fork(chooser.mm, args):
                _random(kernel, chooser.child(number), _CHILD_CALLS)
                _exit(number)
            lines = arena()  # the child may have registered some of it
            continue
        lines = _step(kernel, chooser.mm, name, args)


def _repeat(kernel: Kernel, calls: list[list[Any]], mm: int) -> None:
    """Make the calls of [mm, name, args], as far as they can still be made; those of a child follow its fork."""
    lines = arena()
    for n, (of, name, args) in enumerate(calls):
        if of != mm:
            continue
        if name == "fork":
            if _fork(mm, args):
                _repeat(kernel, calls[n + 1 :], args[1])
                _exit(args[1])
            lines = arena()
        elif name != "fault" or touches(lines, args):
            lines = _step(kernel, mm, name, args)


def _fork(mm: int, args: list[Any]) -> bool:
    """True in the child. The parent goes on when the child has ended."""
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return False
    _print({"mm": mm, "call": "fork", "args": args, "result": os.getpid(), "errno": 0})
    _print({"mm": args[1], "arena": arena()})
    return True


def _exit(mm: int) -> None:
    _print({"mm": mm, "call": "exit", "args": [0, None, 1], "result": None, "errno": 0})
    os._exit(0)


def _names(kernel: Kernel) -> bool:
    """Whether the kernel knows names of anonymous memory (CONFIG_ANON_VMA_NAME)."""
    kernel.call("mmap", [BASE, PAGE, 3, 0x32, -1, 0])
    _, errno = kernel.call("prctl", [0x53564D41, 0, BASE, PAGE, 0, "probe"])
    kernel.call("munmap", [BASE, PAGE])
    return errno == 0


def _step(kernel: Kernel, mm: int, name: str, args: list[Any]) -> list[list[Any]]:
    """The arena after a call."""
    result, errno = kernel.call(name, args)
    lines = arena()
    _print({"mm": mm, "call": name, "args": args, "result": result, "errno": errno, "arena": lines})
    return lines


def _print(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
