"""From an event to the system call it stands for: one adapter a call.

An adapter returns what the call returns (>= 0, or -errno), or None for an event without a result of
its own (it takes the trace's).
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EBADF, EINVAL, ENOMEM
from typing import TYPE_CHECKING, Any, Final

from vmastore.events import Event, ObservedVma
from vmastore.mm.mm import Mm
from vmastore.mm.vma import SEALED, File, UffdCtx
from vmastore.replay.baseline import load_image
from vmastore.replay.resync import clone_mm
from vmastore.syscalls import uapi
from vmastore.syscalls.aio import io_destroy, io_setup, ring_of
from vmastore.syscalls.brk import sys_brk
from vmastore.syscalls.fault import fault, grow_stack
from vmastore.syscalls.madvise import sys_madvise, sys_process_madvise
from vmastore.syscalls.mempolicy import sys_mbind, sys_set_mempolicy_home_node
from vmastore.syscalls.mlock import sys_mlock, sys_mlockall, sys_munlock, sys_munlockall
from vmastore.syscalls.mmap import PLAIN, mmap_plain, sys_mmap
from vmastore.syscalls.mprotect import sys_mprotect
from vmastore.syscalls.mremap import sys_mremap
from vmastore.syscalls.mseal import sys_mseal
from vmastore.syscalls.munmap import sys_munmap
from vmastore.syscalls.prctl import as_observed, sys_prctl
from vmastore.syscalls.process import dup_mmap
from vmastore.syscalls.shm import sys_remap_file_pages, sys_shmat, sys_shmdt
from vmastore.syscalls.userfaultfd import (
    FILLING,
    inherited_ctx,
    uffd_ctx,
    uffdio_api,
    uffdio_fill,
    uffdio_register,
    uffdio_unregister,
    userfaultfd_release,
)

if TYPE_CHECKING:
    from vmastore.replay.world import World

Handler = Callable[["World", Mm, Event], "int | None"]


def _mmap(world: World, mm: Mm, event: Event) -> int:
    addr, length, prot, flags, _, offset = event.args
    if flags & ~uapi.MAP_FIXED == PLAIN:
        done = mmap_plain(mm, addr, length, prot, flags, offset)
        if done is not None:
            return done
    file = None if event.file is None else world.file(event.file)
    if file is None and not flags & uapi.MAP_ANONYMOUS:
        if event.errno == EBADF or not mm.observed:
            return sys_mmap(mm, addr, length, prot, flags, None, offset, True)
        file = File(0, "unknown")  # it is open: the answer says so
    return sys_mmap(mm, addr, length, prot, flags, file, offset)


def _munmap(world: World, mm: Mm, event: Event) -> int:
    return sys_munmap(mm, event.args[0], event.args[1])


def _mprotect(world: World, mm: Mm, event: Event) -> int:
    args = event.args
    return sys_mprotect(mm, args[0], args[1], args[2])


def _pkey_mprotect(world: World, mm: Mm, event: Event) -> int:
    return sys_mprotect(mm, *event.args[:4])


def _mremap(world: World, mm: Mm, event: Event) -> int:
    addr, old, new, flags, *rest = event.args
    return sys_mremap(mm, addr, old, new, flags, rest[0] if rest else None)


def _brk(world: World, mm: Mm, event: Event) -> int:
    return sys_brk(mm, event.args[0])


def _madvise(world: World, mm: Mm, event: Event) -> int:
    args = event.args
    return sys_madvise(mm, args[0], args[1], args[2])


def _process_madvise(world: World, mm: Mm, event: Event) -> int:
    _, iov, _, advice, flags = event.args
    pairs = None if iov is None else [(a, n) for a, n in iov]
    own = mm.observed
    if own and mm.expect_errno == EINVAL:  # of another process, or of this one's memory, after what lies before it
        trial = clone_mm(mm)
        trial.observed, trial.expect_errno = True, EINVAL
        own = sys_process_madvise(trial, pairs, advice, flags) == -EINVAL
    return sys_process_madvise(mm, pairs, advice, flags, same_mm=own)


def _mlock(world: World, mm: Mm, event: Event) -> int:
    return sys_mlock(mm, *event.args)


def _munlock(world: World, mm: Mm, event: Event) -> int:
    return sys_munlock(mm, event.args[0], event.args[1])


def _mlockall(world: World, mm: Mm, event: Event) -> int:
    return sys_mlockall(mm, event.args[0])


def _munlockall(world: World, mm: Mm, event: Event) -> int:
    return sys_munlockall(mm)


def _mbind(world: World, mm: Mm, event: Event) -> int:
    return sys_mbind(mm, *event.args)


def _home_node(world: World, mm: Mm, event: Event) -> int:
    return sys_set_mempolicy_home_node(mm, *event.args)


def _prctl(world: World, mm: Mm, event: Event) -> int:
    option, *rest = event.args
    numbers: list[int] = [n if isinstance(n, int) else 0 for n in rest[:4]]
    numbers += [0] * (4 - len(numbers))
    name: Any = rest[4] if len(rest) > 4 else None
    a, b, c, d = numbers
    return sys_prctl(mm, option, a, b, c, d, name)


def _ioctl(world: World, mm: Mm, event: Event) -> int | None:
    _, cmd, addr, length, mode, *rest = (*event.args, None, None, None, None, None)[:6]
    if cmd == "USERFAULTFD_IOC_NEW":
        _userfaultfd(world, mm, event)
        return None
    if event.file is None or not isinstance(cmd, str) or not cmd.startswith("UFFDIO_"):
        return as_observed(mm) if cmd in ("UFFDIO_REGISTER", "UFFDIO_UNREGISTER") else None
    if cmd in ("UFFDIO_REGISTER", "UFFDIO_UNREGISTER") and (addr is None or length is None):
        return as_observed(mm)  # a range that the trace does not show
    if cmd == "UFFDIO_API":
        uffdio_api(mm, event.file, rest[0] or 0)
    if cmd not in ("UFFDIO_REGISTER", "UFFDIO_UNREGISTER") and cmd not in FILLING:
        return None
    ctx = inherited_ctx(mm, event.file)
    watched = mm if ctx.mm == mm.number else world.mms.get(ctx.mm)
    if cmd in FILLING:
        if watched is not None:
            watched.observed, watched.expect_errno = mm.observed, mm.expect_errno
            uffdio_fill(watched, ctx, addr, length)
        return None
    if watched is None:
        return -ENOMEM  # mmget_not_zero(): it is gone
    if watched is mm:
        return _uffdio(mm, ctx, cmd, addr, length, mode or 0)
    watched.observed, watched.expect_result, watched.expect_errno = mm.observed, mm.expect_result, mm.expect_errno
    result = _uffdio(watched, ctx, cmd, addr, length, mode or 0)
    mm.decisions += watched.decisions  # of this event, though of another address space
    watched.decisions = []
    return result


def _uffdio(mm: Mm, ctx: UffdCtx, cmd: str, addr: int, length: int, mode: int) -> int:
    if mm.fails(ENOMEM) and mm.map_count + 2 < mm.config.max_map_count:
        return -ENOMEM  # not the map limit: mmget_not_zero() met an address space that is ending
    if cmd == "UFFDIO_REGISTER":
        return uffdio_register(mm, ctx, addr, length, mode)
    return uffdio_unregister(mm, ctx, addr, length)


def _userfaultfd(world: World, mm: Mm, event: Event) -> None:
    """userfaultfd(2), or the ioctl of /dev/userfaultfd: the new one watches the caller's mm."""
    if event.file is not None and not event.errno:
        uffd_ctx(mm, event.file)


def _release(world: World, mm: Mm, event: Event) -> None:
    if event.file is not None and event.file in mm.env.uffds:
        ctx = mm.env.uffds[event.file]
        for space in world.mms.values():
            userfaultfd_release(space, ctx)
            if space is not mm:  # what is decided there belongs to this event too
                mm.decisions += space.decisions
                space.decisions = []


def _remap_file_pages(world: World, mm: Mm, event: Event) -> int:
    return sys_remap_file_pages(mm, *event.args)


def _shmat(world: World, mm: Mm, event: Event) -> int:
    _, addr, shmflg, size = event.args
    known = world.file(event.file)
    kind = "hugeshm" if known is not None and known.kind == "hugeshm" else "shm"
    file = File(event.file or 0, kind, known.path if known else None)
    if known is not None:
        file.dev, file.inode = known.dev, known.inode
        size = known.size if size is None else size
    return sys_shmat(mm, addr or 0, shmflg, size, file)


def _shmdt(world: World, mm: Mm, event: Event) -> int:
    return sys_shmdt(mm, event.args[0])


def _io_setup(world: World, mm: Mm, event: Event) -> None:
    found = None if event.errno or event.result is None else ring_of(mm, event.args)
    if found is not None:
        io_setup(mm, event.args[0], found[0])


def _io_destroy(world: World, mm: Mm, event: Event) -> None:
    if not event.errno and event.result is not None and isinstance(event.args[0], int):
        io_destroy(mm, event.args[0])


def _fcntl(world: World, mm: Mm, event: Event) -> None:
    """F_ADD_SEALS: a memfd that may not be written any more is mapped otherwise from now on."""
    _, cmd, seals = (*event.args, None, None, None)[:3]
    file = world.file(event.file)
    if cmd != uapi.F_ADD_SEALS or event.errno or file is None or file.kind != "memfd":
        return
    if isinstance(seals, str):
        sealed = "F_SEAL_WRITE" in seals or "F_SEAL_FUTURE_WRITE" in seals
    else:
        sealed = isinstance(seals, int) and bool(seals & uapi.F_SEAL_WRITES)
    if sealed:
        file.kind = SEALED


def _mseal(world: World, mm: Mm, event: Event) -> int:
    return sys_mseal(mm, event.args[0], event.args[1], event.args[2])


def _personality(world: World, mm: Mm, event: Event) -> None:
    persona = event.args[0]
    if not event.errno and isinstance(persona, int) and persona != 0xFFFFFFFF:
        mm.persona = persona


def _fault(world: World, mm: Mm, event: Event) -> int | None:
    addr, length, access, outcome = event.args[:4]
    refused = fault(mm, addr, length, access == "w", outcome)
    return refused if event.result is not None else None


def _stack_grow(world: World, mm: Mm, event: Event) -> None:
    vma = mm.find_vma(event.args[0])
    if vma.vm_start > event.args[0]:
        grow_stack(mm, vma, event.args[0])


def _fork(world: World, mm: Mm, event: Event) -> None:
    child = event.args[1]
    if event.errno or not isinstance(child, int):
        return
    copy = dup_mmap(mm, child, world.mms.values()) if child != event.mm else None
    world.limits.forked(mm, event, copy)
    if copy is not None:
        world.adopt(copy)


def _exec(world: World, mm: Mm, event: Event) -> None:
    new = event.args[2] if len(event.args) > 2 else None
    if event.errno or not isinstance(new, int):
        return
    fresh = Mm(mm.env, new)
    fresh.merge_any = mm.merge_any
    fresh.persona = mm.persona & ~uapi.READ_IMPLIES_EXEC  # a program of 64 bits never has it
    world.limits.executed(mm, event, fresh)
    world.begun.add(new)
    world.adopt(fresh)


def _setrlimit(world: World, mm: Mm, event: Event) -> None:
    world.limits.change(mm, event)


def _exit(world: World, mm: Mm, event: Event) -> None:
    world.limits.exited(event)
    if len(event.args) > 2 and event.args[2]:
        mm.clear()
        world.mms.pop(mm.number, None)


def _maps(world: World, mm: Mm, event: Event) -> None:
    kind, _, removed, added = event.args
    if kind == "baseline" and removed is None:
        world.load(event.mm, [ObservedVma(*line) for line in added])
    elif kind == "image":
        load_image(mm, [ObservedVma(*line) for line in added], world.images)


def _note(world: World, mm: Mm, event: Event) -> None:
    kind, value = event.args
    if kind == "brk":  # of a process that was attached to
        mm.start_brk, mm.brk = value["start_brk"], value["brk"]
    elif kind == "own-image":  # it has executed a program since it was forked, so that it has inherited nothing
        for vma in mm.vmas():
            if vma.base is not None:
                vma.base.own = True


HANDLERS: Final[dict[str, Handler]] = {
    "mmap": _mmap,
    "mmap2": _mmap,
    "munmap": _munmap,
    "mprotect": _mprotect,
    "pkey_mprotect": _pkey_mprotect,
    "mremap": _mremap,
    "brk": _brk,
    "madvise": _madvise,
    "process_madvise": _process_madvise,
    "mlock": _mlock,
    "mlock2": _mlock,
    "munlock": _munlock,
    "mlockall": _mlockall,
    "munlockall": _munlockall,
    "mbind": _mbind,
    "set_mempolicy_home_node": _home_node,
    "prctl": _prctl,
    "ioctl": _ioctl,
    "userfaultfd": _userfaultfd,
    "release": _release,
    "remap_file_pages": _remap_file_pages,
    "shmat": _shmat,
    "shmdt": _shmdt,
    "io_setup": _io_setup,
    "io_destroy": _io_destroy,
    "fcntl": _fcntl,
    "mseal": _mseal,
    "personality": _personality,
    "prlimit64": _setrlimit,
    "setrlimit": _setrlimit,
    "fault": _fault,
    "stack_grow": _stack_grow,
    "fork": _fork,
    "vfork": _fork,
    "clone": _fork,
    "clone3": _fork,
    "execve": _exec,
    "execveat": _exec,
    "exit": _exit,
    "maps": _maps,
    "note": _note,
}
