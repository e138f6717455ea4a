"""Registers become typed arguments."""

from __future__ import annotations

import pytest

from vmastore.events import CALLS
from vmastore.importers.rawcalls import _SHAPES, _SPECIAL, clone_flags, typed

MINUS_ONE = 0xFFFFFFFF  # an int register whose upper half is not set
NOT_IN_TABLE = {"arch_prctl", "ftruncate", "rename", "unlink", "unlinkat"}


@pytest.mark.parametrize("name", sorted((_SHAPES.keys() | _SPECIAL.keys()) - NOT_IN_TABLE))
def test_every_call_has_as_many_arguments_as_the_event_table_says(name: str) -> None:
    """Six registers of rubbish give the call's own arguments and no more."""
    args = typed(name, [0x1122334455667788] * 6, "1 2 3 4")
    assert len(args) == len(CALLS[name])


ROWS = [
    ("mmap", [0, 4096, 3, 0x22, MINUS_ONE, 0], None, (0, 4096, 3, 0x22, -1, 0)),
    ("madvise", [1 << 63, 4096, 0x7700000004], None, (1 << 63, 4096, 4)),
    ("pkey_mprotect", [0, 0, 1, MINUS_ONE], None, (0, 0, 1, -1)),
    ("prctl", [0x53564D41, 0, 4096, 8192, 0x7F00], "glibc: heap", (0x53564D41, 0, 4096, 8192, 0x7F00, "glibc: heap")),
    ("prctl", [0x53564D41, 0, 4096, 8192, 0x7F00], None, (0x53564D41, 0, 4096, 8192, 0x7F00, "")),
    ("prctl", [0x53564D41, 0, 4096, 8192, 0], None, (0x53564D41, 0, 4096, 8192, 0, None)),
    ("prctl", [15, 0x7F00, 1, 2, 3], None, (15, 0x7F00, 1, 2, 3, None)),
    ("openat", [0xFFFFFF9C, 1, 0o100, 0o644], "x", (-100, "x", 0o100, 0o644)),
    ("openat", [5, 1, 0, 0o644], "x", (5, "x", 0, None)),
    ("open", [1, 0o20200002, 0o600], "x", (-100, "x", 0o20200002, 0o600)),
    ("openat2", [0xFFFFFF9C, 1, 2, 24], "x", (-100, "x", None, None)),
    ("creat", [1, 0o600], "x", ("x", 0o600)),
    ("memfd_create", [1, 1], "m", ("m", 1)),
    ("execve", [1, 2, 3], "/bin/x", ("/bin/x", None, None)),
    ("process_madvise", [5, 0x7F00, 1, MINUS_ONE, 0], None, (5, None, 1, MINUS_ONE, 0)),
    ("mbind", [4096, 4096, 2, 0x7F00, 8, 0], None, (4096, 4096, 2, None, 8, 0)),
    ("shmat", [5, 0, 0o10000], None, (5, 0, 0o10000, None)),
    ("close_range", [3, MINUS_ONE, 4], None, (3, MINUS_ONE, 4)),
    ("dup2", [MINUS_ONE, 1], None, (-1, 1, 0)),
    ("some_call", [1, 2], None, (1, 2)),
]


@pytest.mark.parametrize(
    ("name", "registers", "text", "args"), ROWS, ids=[f"{n}-{row[0]}" for n, row in enumerate(ROWS)]
)
def test_arguments_are_read_at_their_width(
    name: str, registers: list[int], text: str | None, args: tuple[object, ...]
) -> None:
    """C ints by their low half with its sign, strings from beside the registers, pointers as None."""
    padded = registers if name == "some_call" else registers + [0] * (6 - len(registers))
    assert typed(name, padded, text) == args


@pytest.mark.parametrize(
    ("number", "words", "args"),
    [
        (0xC018AA3F, "aa 80 0 0", ("UFFDIO_API", None, None, None, 0x80)),
        (0xC020AA00, "1000 2000 3 0", ("UFFDIO_REGISTER", 0x1000, 0x2000, 3, None)),
        (0x8010AA01, "1000 2000 0 0", ("UFFDIO_UNREGISTER", 0x1000, 0x2000, None, None)),
        (0xC028AA03, "1000 5000 2000 1", ("UFFDIO_COPY", 0x1000, 0x2000, 1, None)),
        (0xC018AA06, "1000 2000 1 0", ("UFFDIO_WRITEPROTECT", 0x1000, 0x2000, 1, None)),
        (0xC020AA00, None, ("UFFDIO_REGISTER", None, None, None, None)),
        (0xAA77, "1 2 3 4", ("0xaa77", None, None, None, None)),
    ],
)
def test_userfaultfd_requests_are_read_from_their_words(
    number: int, words: str | None, args: tuple[object, ...]
) -> None:
    """Address, length, mode and features, where the recording could read them."""
    assert typed("ioctl", [7, number, 0x7F00, 0, 0, 0], words) == (7, *args)


@pytest.mark.parametrize(
    ("name", "registers", "text", "flags"),
    [
        ("fork", [9], None, 17),
        ("vfork", [9], None, 0x4111),
        ("clone", [0x1200011], None, 0x1200011),
        ("clone3", [0x7F00, 88], "flags=3d0f00", 0x3D0F00),
        ("clone3", [0x7F00, 88], None, None),
    ],
)
def test_flags_of_the_calls_that_make_a_process(
    name: str, registers: list[int], text: str | None, flags: int | None
) -> None:
    """fork and vfork have theirs by definition, clone3's were read or are unknown."""
    assert clone_flags(name, registers, text) == flags
