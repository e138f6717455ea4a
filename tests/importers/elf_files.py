"""Small ELF files, made by hand."""

from __future__ import annotations

import struct
from pathlib import Path

LOAD, INTERP, RELRO = 1, 3, 0x6474E552


def elf(kind: int, headers: list[tuple[int, int, int, int, int, int]], tail: bytes = b"") -> bytes:
    """A 64-bit little-endian ELF file. headers: (type, flags, offset, vaddr, filesz, memsz)."""
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    head = ident + struct.pack("<HHIQQQIHHHHHH", kind, 62, 1, 0, 64, 0, 0, 64, 56, len(headers), 64, 0, 0)
    body = b"".join(struct.pack("<IIQQQQQQ", t, f, o, v, v, n, m, 0x1000) for t, f, o, v, n, m in headers)
    return (head + body).ljust(0x300, b"\0") + tail


PIE = [
    (INTERP, 4, 0x300, 0x300, 9, 9),
    (LOAD, 4, 0, 0, 0x1290, 0x1290),
    (LOAD, 5, 0x2000, 0x2000, 0x3D59, 0x3D59),
    (LOAD, 6, 0x7D70, 0x8D70, 0x470, 0x1608),
    (RELRO, 4, 0x7D70, 0x8D70, 0x290, 0x290),
]


def write_pie(path: Path) -> Path:
    """A position-independent executable with a loader, bss and RELRO."""
    path.write_bytes(elf(3, PIE, b"/ld.so.1\0"))
    return path
