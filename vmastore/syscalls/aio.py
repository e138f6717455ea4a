"""io_setup and io_destroy: the ring of an asynchronous I/O context. Sources: ioctx_alloc(), aio_setup_ring()."""

from __future__ import annotations

from typing import Any, Final

from vmastore.mm.merge import do_vmi_munmap
from vmastore.mm.mm import Mm
from vmastore.mm.outcome import assumed
from vmastore.mm.vma import File
from vmastore.syscalls.common import page_align
from vmastore.syscalls.mmap import do_mmap
from vmastore.syscalls.uapi import MAP_FIXED, MAP_SHARED, PROT_READ, PROT_WRITE

RING_PATH: Final = "/[aio] (deleted)"
_HEAD: Final = 32  # bytes: struct aio_ring
_ENTRY: Final = 32  # struct io_event
_SPARE: Final = 2  # entries
_MOST_CPUS: Final = 8192  # NR_CPUS of the distributions' kernels


def io_setup(mm: Mm, nr_events: int, ctx: int) -> None:
    """Map the ring of a new context at ctx, which is its address. It never merges."""
    cpus = mm.config.cpus
    size = _ring_size(nr_events, cpus or 1)
    file = File(0, "aio", RING_PATH, readable=True, writable=True, size=size)
    do_mmap(mm, ctx, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0)
    if cpus is None and size != _ring_size(nr_events, _MOST_CPUS):
        mm.decisions[:] = [assumed(decision) for decision in mm.decisions]  # how long it is hangs on them


def ring_of(mm: Mm, args: tuple[Any, ...]) -> tuple[int, int] | None:
    """Address and length of the ring of an io_setup that succeeded; None where its arguments do not show it."""
    count, shown = args[:2]
    if not isinstance(count, int) or not isinstance(shown, str):
        return None  # a log of raw arguments shows where the context's number is, not what it is
    try:
        return int(shown.strip("[]"), 16), _ring_size(count, mm.config.cpus or 1)
    except ValueError:
        return None


def _ring_size(nr_events: int, cpus: int) -> int:
    entries = 2 * max(nr_events, 4 * cpus) + _SPARE
    return page_align(_HEAD + _ENTRY * entries)


def io_destroy(mm: Mm, ctx: int) -> None:
    """Unmap the ring of a context, as long as it was made."""
    vma = mm.find_vma(ctx)
    file = vma.attrs.vm_file
    if vma.vm_start != ctx or file is None or file.kind != "aio":
        return
    end = ctx + (file.size or 0)
    while file.size is None and vma.vm_start <= max(end, ctx) and vma.attrs.vm_file is file:
        end = vma.vm_end
        vma = vma.next
    do_vmi_munmap(mm.vmi, ctx, end)


def ring_stays(mm: Mm, file: File | None, length: int) -> bool:
    """Whether an mremap of a ring is refused (aio_ring_mremap): only its own process may move it, and whole.

    By then the target has been unmapped.
    """
    if file is None or file.kind != "aio":
        return False
    if mm.observed:
        return mm.expect_errno != 0
    return file.size is not None and length != file.size
