"""Descriptor tables and the descriptions behind them."""

from __future__ import annotations

import random

import pytest

from vmastore.importers.descriptors import Descriptions, FdTable, access, kind_of


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (None, "unknown"),
        ("/dev/zero", "zero"),
        ("/memfd:x", "memfd"),
        ("anon_inode:[userfaultfd]", "uffd"),
        ("anon_inode:[eventpoll]", "unknown"),
        ("socket:[12]", "socket"),
        ("/dev/nvidia0", "device"),
        ("/dev/shm/x", "regular"),
        ("/dev/hugepages/x", "hugetlb"),
        ("/SYSV00000000", "shm"),
        ("/usr/lib/libc.so.6", "regular"),
        ("relative", "regular"),
    ],
)
def test_kind_by_path(path: str | None, kind: str) -> None:
    """A path tells what kind of file it is to an address space."""
    assert kind_of(path) == kind


def test_access_by_flags() -> None:
    """O_RDONLY, O_WRONLY, O_RDWR and O_PATH give what mmap asks for."""
    assert [access(flags) for flags in (0, 1, 2, 0o10000002, None)] == [
        (True, False),
        (False, True),
        (True, True),
        (False, False),
        (None, None),
    ]


def test_the_path_that_is_shown_first_completes_a_description() -> None:
    """An open without -y's path takes the first one shown; a later, other one is another file."""
    files, table = Descriptions(), FdTable()
    files.install(table, 3, files.opened("lib.so", None, 0), cloexec=False)
    assert files.lookup(table, 3, "/usr/lib.so") == 1
    assert files.files[0].path == "/usr/lib.so"
    assert files.lookup(table, 3, None) == 1
    assert files.lookup(table, 3, "/other") == 2
    assert files.files[1].origin == "unknown"


def test_references_of_userfaultfds_are_counted() -> None:
    """A random walk over tables releases each userfaultfd exactly when no table has it."""
    rng = random.Random(5)
    files, tables = Descriptions(), [FdTable()]
    tables[0].users = 1
    live: set[int] = set()
    for _ in range(4000):
        table, fd = rng.choice(tables), rng.randrange(6)
        step = rng.randrange(7)
        released: list[int] = []
        if step == 0:
            file = files.opened(None, None, kind="uffd")
            live.add(file)
            released = files.install(table, fd, file, cloexec=rng.random() < 0.5)
        elif step == 1 and table.slots:
            source = rng.choice(list(table.slots))
            if source != fd:
                released = files.install(table, fd, table.slots[source].file, cloexec=False)
        elif step == 2:
            released = files.close(table, fd)
        elif step == 3:
            released = files.close_range(table, fd, fd + 2)
        elif step == 4 and len(tables) < 5:
            tables.append(files.copy(table))
            tables[-1].users = 1
        elif step == 5:
            released = files.exec(table)
        elif step == 6 and len(tables) > 1:
            table.users = 0
            released = files.drop(table)
            tables.remove(table)
        held = {slot.file for other in tables for slot in other.slots.values()}
        assert set(released) == live - held
        assert len(released) == len(set(released))
        live &= held
    assert len(files.files) > 100


def test_a_table_that_is_in_use_is_not_dropped() -> None:
    """Threads share a table: it goes with the last of them."""
    files, table = Descriptions(), FdTable()
    files.install(table, 3, files.opened(None, None, kind="uffd"), cloexec=False)
    table.users = 1
    assert files.drop(table) == []
    table.users = 0
    assert files.drop(table) == [1]
