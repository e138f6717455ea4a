"""Threads and the address spaces they use."""

from __future__ import annotations

from vmastore.importers.descriptors import FdTable
from vmastore.importers.processes import Processes


def test_an_address_space_goes_with_its_last_user() -> None:
    """remove and move say when nobody uses an mm any more."""
    processes = Processes()
    mm, table = processes.new_mm(), FdTable()
    first, second = processes.add(1, 1, mm, table), processes.add(2, 1, mm, table)
    assert processes.siblings(first) == [second]
    assert table.users == 2
    assert processes.remove(2) == (second, False)
    assert processes.move(first, processes.new_mm()) is True
    assert (first.mm, processes.mms, table.users) == (2, 2, 1)
    assert processes.remove(1) == (first, True)
    assert processes.remove(1) is None


def test_a_thread_without_an_address_space_takes_none_with_it() -> None:
    """mm 0 stands for none known."""
    processes = Processes()
    processes.add(1, 1, 0, FdTable())
    removed = processes.remove(1)
    assert removed is not None and removed[1] is False


def test_a_reused_tid_replaces_its_thread() -> None:
    """Adding a tid that is still there ends the thread that had it."""
    processes = Processes()
    old = processes.add(1, 1, processes.new_mm(), FdTable())
    before = processes.changes
    new = processes.add(1, 1, processes.new_mm(), FdTable())
    assert processes.threads[1] is new and new is not old
    assert old.files.users == 0 and processes.changes > before
