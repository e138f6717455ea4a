"""Child of test_mremap: performs rows of mremap calls on the running kernel and prints what came of them.

`python live_mremap.py`; JSON rows on standard input: [setup, [addr, old, new, flags, target]] with addresses in
bytes behind the row's own base. One JSON line a row: [result or -errno, [[start, end] in pages, …]].
"""

from __future__ import annotations

import json
import sys

from vmastore.conform.kernel import PAGE, Kernel, syscall

BASE, ROOM = 0x200000000000, 256 * PAGE
MREMAP, MSEAL = 25, 462


def layout(base: int) -> list[list[int]]:
    """The VMAs of a row's room, in pages behind its base."""
    found = []
    with open("/proc/self/maps") as stream:
        for line in stream:
            start, _, end = line.split()[0].partition("-")
            if base <= int(start, 16) < base + ROOM:
                found.append([(int(start, 16) - base) // PAGE, (int(end, 16) - base) // PAGE])
    return found


def main() -> None:
    kernel = Kernel()
    for n, (setup, (addr, old, new, flags, target)) in enumerate(json.load(sys.stdin)):
        base = BASE + n * 2 * ROOM
        for what, page, pages, *prot in setup:
            if what == "seal":
                syscall(MSEAL, base + page * PAGE, pages * PAGE, 0)
            else:
                kind = 0x31 if what == "shared" else 0x32
                kernel.call("mmap", [base + page * PAGE, pages * PAGE, prot[0] if prot else 3, kind, -1, 0])
        place = base + target if flags & 2 else 0
        result, errno = syscall(MREMAP, base + addr, old, new, flags, place)
        print(json.dumps([-errno if errno else 0, layout(base)]))
        del result


if __name__ == "__main__":
    main()
