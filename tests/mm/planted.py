"""Bugs to plant, so that a test can show that it would find them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vmastore.mm.merge import split
from vmastore.mm.vma import Vma
from vmastore.syscalls import fault


def wrong_half(change: Callable[[Vma], None]) -> Callable[[pytest.MonkeyPatch], None]:
    """Plant a bug in what every split makes."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        real = split.split_vma_unchecked

        def wrong(*args: object, **kwargs: object) -> object:
            new = real(*args, **kwargs)  # type: ignore[arg-type]
            if isinstance(new, Vma):
                change(new)
            return new

        monkeypatch.setattr(split, "split_vma_unchecked", wrong)

    return plant


def wrong_flags(vma: Vma) -> None:
    vma.attrs = vma.attrs.with_flags(vma.attrs.vm_flags ^ 0x10000)


def wrong_pgoff(vma: Vma) -> None:
    vma.attrs = vma.attrs.with_delta(vma.attrs.delta + 1, vma.attrs.anon_delta)


def unwritten(vma: Vma) -> None:
    vma.anon_vma, vma.chain = None, ()


def never_reuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fault, "_reusable", lambda *args: None)
