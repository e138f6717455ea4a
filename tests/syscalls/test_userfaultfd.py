"""What fills a page through a userfaultfd gives its VMA an anon_vma. Each row was seen on Linux 6.18.44."""

from __future__ import annotations

from errno import EFAULT, EINVAL, ENOENT

import pytest

from vmastore.events import Event, TraceHeader
from vmastore.importers.strace.arguments import parse
from vmastore.mm.rules import preset
from vmastore.mm.unknown import write_open
from vmastore.mm.vma import Vma
from vmastore.replay.world import World

A = 0x200000000
P = 4096


def filled(cmd: str, addr: int | None, length: int | None, errno: int, registered: bool = True) -> Vma:
    """Four pages, after the ioctl."""
    world = World(TraceHeader("t", "t", "record", faults="recorded"), [], preset("6.18"))

    def apply(
        call: str, args: tuple[object, ...], result: int | None, errno: int = 0, file: int | None = None
    ) -> None:
        world.apply(Event(1, 1, 1, 1, None, call, args, result, errno, file))

    apply("mmap", (A, 4 * P, 3, 0x32, -1, 0), A)
    apply("userfaultfd", (0,), 3, file=1)
    apply("ioctl", (3, "UFFDIO_API", None, None, None, 0), 0, file=1)
    if registered:
        apply("ioctl", (3, "UFFDIO_REGISTER", A, 4 * P, 1, None), 0, file=1)
    apply("ioctl", (3, cmd, addr, length, 0, None), None if errno else 0, errno, 1)
    return world.mm(1).find_vma(A)


@pytest.mark.parametrize(
    ("cmd", "length", "errno", "registered", "written"),
    [
        ("UFFDIO_COPY", P, 0, True, True),
        ("UFFDIO_ZEROPAGE", P, 0, True, True),
        ("UFFDIO_MOVE", P, 0, True, True),
        ("UFFDIO_POISON", P, 0, True, True),
        ("UFFDIO_COPY", P, ENOENT, False, True),
        ("UFFDIO_COPY", 8 * P, ENOENT, True, True),
        ("UFFDIO_COPY", P, EFAULT, True, True),
        ("UFFDIO_COPY", 100, EINVAL, True, False),
        ("UFFDIO_WRITEPROTECT", P, 0, True, False),
    ],
)
def test_filling_a_page_is_a_write(cmd: str, length: int, errno: int, registered: bool, written: bool) -> None:
    """No page fault shows it; what fails late has done it, too."""
    vma = filled(cmd, A, length, errno, registered)
    assert (vma.anon_vma is not None, write_open(vma)) == (written, False)


@pytest.mark.parametrize(("addr", "errno"), [(None, 0), (None, ENOENT), (None, EINVAL), (A, EINVAL)])
def test_a_target_that_is_not_shown_is_open(addr: int | None, errno: int) -> None:
    """strace is too old for the request, or it failed nobody knows where: it may be written."""
    assert write_open(filled("UFFDIO_MOVE", addr, None if addr is None else P, errno))


def test_requests_that_strace_is_too_old_for() -> None:
    """They have their names all the same."""
    request = b"_IOC(_IOC_READ|_IOC_WRITE, 0xaa, 0x5, 0x28)"
    assert parse("ioctl", [b"3", request, b"0x7ffc0e73d950"])[1] == "UFFDIO_MOVE"
    assert parse("ioctl", [b"3", b"_IOC(_IOC_READ, 0xab, 0x5, 0x28)", b"0"])[1] == "_IOC(_IOC_READ, 0xab, 0x5, 0x28)"
