"""The parts of a generated C program that do not depend on the trace, and the names of its constants."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files

PROTS = ((1, "PROT_READ"), (2, "PROT_WRITE"), (4, "PROT_EXEC"))
ADVICE = {
    0: "MADV_NORMAL", 1: "MADV_RANDOM", 2: "MADV_SEQUENTIAL", 3: "MADV_WILLNEED", 4: "MADV_DONTNEED", 8: "MADV_FREE",
    9: "MADV_REMOVE", 10: "MADV_DONTFORK", 11: "MADV_DOFORK", 12: "MADV_MERGEABLE", 13: "MADV_UNMERGEABLE",
    14: "MADV_HUGEPAGE", 15: "MADV_NOHUGEPAGE", 16: "MADV_DONTDUMP", 17: "MADV_DODUMP", 18: "MADV_WIPEONFORK",
    19: "MADV_KEEPONFORK", 102: "MADV_GUARD_INSTALL", 103: "MADV_GUARD_REMOVE",
}  # fmt: skip
POLICIES = {0: "MPOL_DEFAULT", 1: "MPOL_PREFERRED", 2: "MPOL_BIND", 3: "MPOL_INTERLEAVE", 4: "MPOL_LOCAL"}
PRCTL = {67: "PR_SET_MEMORY_MERGE", 65: "PR_SET_MDWE"}
MODES = {
    (True, True): "O_RDWR",
    (True, False): "O_RDONLY",
    (False, True): "O_WRONLY",
    (False, False): "O_PATH",
}


def symbols(value: int, names: Iterable[tuple[int, str]], none: str) -> str:
    """`PROT_READ | PROT_WRITE`; bits without a name as a number; `none` for 0."""
    parts = []
    for bit, name in names:
        if value & bit:
            parts.append(name)
            value &= ~bit
    if value:
        parts.append(hex(value))
    return " | ".join(parts) or none


def quoted(text: str) -> str:
    """A C string literal."""
    inner = "".join(
        c if c.isascii() and c.isprintable() and c not in '"\\?' else "".join(f"\\{b:03o}" for b in c.encode())
        for c in text
    )
    return f'"{inner}"'


def part(name: str) -> str:
    """A part of the program that is the same for every trace: head, limit."""
    return (files("vmastore") / "data" / f"reproducer-{name}.c").read_text()


FOOT = "\n\tfflush(stdout);\n\treturn failed;\n}\n"
