"""The child process: makes calls and prints, for each, what the kernel answered and the arena afterwards.

`python -m vmastore.conform.child SEED COUNT [SCRIPT]`; one JSON line a call.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from vmastore.conform.calls import SCRIPTS, Chooser
from vmastore.conform.kernel import BASE, PAGE, Kernel, arena, syscall
from vmastore.conform.special import brk_battery, limit_battery

SPECIAL = {"brk": brk_battery, "map limit": limit_battery}


def main() -> None:
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    kernel = Kernel()
    _, missing = syscall(462, BASE, 0, 0)
    facts = {"uffd": kernel.uffd is not None, "mseal": missing == 0, "anon_name": _names(kernel)}
    if len(sys.argv) > 3 and sys.argv[3] in SPECIAL:
        more, steps = SPECIAL[sys.argv[3]](kernel)
        _print({**facts, **more})
        for step in steps:
            _print(step)
        return
    _print(facts)
    if len(sys.argv) > 3:
        for name, args in SCRIPTS[sys.argv[3]]:
            _step(kernel, name, args)
        return
    chooser = Chooser(seed, uffd=facts["uffd"], mseal=facts["mseal"])
    lines: list[list[Any]] = []
    for _ in range(count):
        name, args = chooser.next(lines)
        lines = _step(kernel, name, args)


def _names(kernel: Kernel) -> bool:
    """Whether the kernel knows names of anonymous memory (CONFIG_ANON_VMA_NAME)."""
    kernel.call("mmap", [BASE, PAGE, 3, 0x32, -1, 0])
    _, errno = kernel.call("prctl", [0x53564D41, 0, BASE, PAGE, 0, "probe"])
    kernel.call("munmap", [BASE, PAGE])
    return errno == 0


def _step(kernel: Kernel, name: str, args: list[Any]) -> list[list[Any]]:
    result, errno = kernel.call(name, args)
    lines = arena()
    _print({"call": name, "args": args, "result": result, "errno": errno, "arena": lines})
    return lines


def _print(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
