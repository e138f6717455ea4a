"""What calls do to descriptors, and the file that each event names."""

from __future__ import annotations

from vmastore.events.types import Arg
from vmastore.importers.processes import Thread
from vmastore.importers.strace import constants
from vmastore.importers.strace.arguments import parse
from vmastore.importers.strace.joiner import Called
from vmastore.importers.strace.scan import Unparsed, split_list
from vmastore.importers.strace.tokens import bare_name, decoded_path, decoration, text_of
from vmastore.importers.strace.tracker import Handler, Tracker

MAP_ANONYMOUS = constants.MAP["MAP_ANONYMOUS"]
O_CLOEXEC = constants.OPEN["O_CLOEXEC"]


def _done(call: Called) -> bool:
    """Whether the kernel did it."""
    return not call.result.errno and not call.result.injected


def _shown_result(call: Called) -> str | None:
    """The path that -y shows behind the result."""
    text = call.result.decoration
    return decoded_path(text.removesuffix(b" (deleted)").partition(b"<")[0]) if text else None


def _file_of(tracker: Tracker, thread: Thread, fd: int, token: bytes) -> int | None:
    return None if fd < 0 else tracker.descriptions.lookup(thread.files, fd, decoration(token))


def _mmap(tracker: Tracker, thread: Thread, call: Called) -> None:
    args = parse(call.name, call.tokens)
    file = None
    if not args[3] & MAP_ANONYMOUS and args[4] >= 0:
        if _done(call) or decoration(call.tokens[4]) is not None:
            file = _file_of(tracker, thread, args[4], call.tokens[4])
        else:
            slot = thread.files.slots.get(args[4])
            file = slot.file if slot else None
    tracker.event(thread, call, args, file)


def _install(tracker: Tracker, thread: Thread, call: Called, args: tuple[Arg, ...], file: int, cloexec: bool) -> None:
    """A new descriptor: the event, then the release of what it replaced."""
    fd = call.result.value
    assert fd is not None
    released = tracker.descriptions.install(thread.files, fd, file, cloexec)
    tracker.event(thread, call, args, file)
    tracker.released(thread, call, released)


def _open(tracker: Tracker, thread: Thread, call: Called) -> None:
    try:
        args = parse(call.name, call.tokens)
    except Unparsed:  # flags of a newer strace: the descriptor matters all the same
        args = (None, b", ".join(call.tokens).decode("utf-8", "backslashreplace"), None, None)
    if b"AT_FDCWD<" in call.first:
        tracker.folders.shown(thread.pid, thread.mm, call.first)
    if call.name == "creat":
        path, flags = args[0], constants.OPEN["O_WRONLY"] | constants.OPEN["O_CREAT"]
    else:
        path, flags = args[1], args[2]
    if not _done(call):
        tracker.event(thread, call, args)
        return
    tracker.saw.add("descriptors")
    file = tracker.descriptions.opened(path, _shown_result(call), flags)
    _install(tracker, thread, call, args, file, bool((flags or 0) & O_CLOEXEC))


def _chdir(tracker: Tracker, thread: Thread, call: Called) -> None:
    if _done(call):
        token = call.first
        path = text_of(token) if call.name == "chdir" else tracker.path_of(thread, token)
        tracker.folders.changed(thread.pid, thread.mm, path)
    tracker.event(thread, call, parse(call.name, call.tokens))


def _memfd_create(tracker: Tracker, thread: Thread, call: Called) -> None:
    args = parse(call.name, call.tokens)
    if not _done(call):
        tracker.event(thread, call, args)
        return
    kind = "hugetlb" if args[1] & constants.MFD["MFD_HUGETLB"] else "memfd"
    path = f"/memfd:{args[0]}"
    file = tracker.descriptions.opened(path, _shown_result(call), constants.OPEN["O_RDWR"], kind=kind)
    _install(tracker, thread, call, args, file, bool(args[1] & constants.MFD["MFD_CLOEXEC"]))


def _new_uffd(tracker: Tracker, thread: Thread, call: Called, args: tuple[Arg, ...], flags: int) -> None:
    """A userfaultfd belongs to the address space that makes it, whoever holds it later."""
    file = tracker.descriptions.opened("anon_inode:[userfaultfd]", None, constants.OPEN["O_RDWR"], kind="uffd")
    tracker.uffd_mm[file] = thread.mm or tracker.adopt(thread)
    _install(tracker, thread, call, args, file, bool(flags & O_CLOEXEC))


def _userfaultfd(tracker: Tracker, thread: Thread, call: Called) -> None:
    args = parse(call.name, call.tokens)
    if _done(call):
        _new_uffd(tracker, thread, call, args, args[0])
    else:
        tracker.event(thread, call, args)


def _ioctl(tracker: Tracker, thread: Thread, call: Called) -> None:
    args = parse(call.name, call.tokens)
    if args[1] == "USERFAULTFD_IOC_NEW" and _done(call):
        _new_uffd(tracker, thread, call, args, O_CLOEXEC)
        return
    file = mm = None
    if args[1].startswith("UFFDIO_"):
        file = _uffd_of(tracker, thread, args[0], call.first)
        mm = tracker.uffd_mm.get(file or 0)  # what it acts on, whoever inherited it
        mm = mm if mm and tracker.processes.in_use(mm) else None
    tracker.event(thread, call, args, file, mm=mm)


def _uffd_of(tracker: Tracker, thread: Thread, fd: int, token: bytes) -> int | None:
    """The userfaultfd of an ioctl. One that was made out of the trace's sight is taken for one of this mm."""
    file = _file_of(tracker, thread, fd, token)
    if file is not None and tracker.descriptions.files[file - 1].kind != "uffd":
        file = tracker.descriptions.opened("anon_inode:[userfaultfd]", None, kind="uffd")
        tracker.descriptions.install(thread.files, fd, file, cloexec=False, known=False)
    if file is not None:
        tracker.uffd_mm.setdefault(file, thread.mm)
    return file


def _duplicate(tracker: Tracker, thread: Thread, call: Called, args: tuple[Arg, ...], cloexec: bool) -> None:
    """dup and its kin: the new descriptor is the call's result."""
    if not _done(call):
        tracker.event(thread, call, args)
        return
    file = _file_of(tracker, thread, args[0], call.first)
    if file is None or call.result.value == args[0]:
        tracker.event(thread, call, args, file)
        return
    known = thread.files.slots[args[0]].known
    fd = call.result.value
    assert fd is not None
    released = tracker.descriptions.install(thread.files, fd, file, cloexec, known)
    tracker.event(thread, call, args, file)
    tracker.released(thread, call, released)


def _dup(tracker: Tracker, thread: Thread, call: Called) -> None:
    args = parse(call.name, call.tokens)
    _duplicate(tracker, thread, call, args, call.name == "dup3" and bool(args[2] & O_CLOEXEC))


def _fcntl(tracker: Tracker, thread: Thread, call: Called) -> None:
    args = parse(call.name, call.tokens)
    fd, cmd, arg = args
    if cmd in (constants.FCNTL["F_DUPFD"], constants.FCNTL["F_DUPFD_CLOEXEC"]):
        _duplicate(tracker, thread, call, args, cmd == constants.FCNTL["F_DUPFD_CLOEXEC"])
        return
    if cmd == constants.FCNTL["F_SETFD"] and _done(call):
        tracker.descriptions.set_cloexec(thread.files, fd, bool(arg & 1))
    slot = thread.files.slots.get(fd)
    tracker.event(thread, call, args, slot.file if slot else None)


def _close(tracker: Tracker, thread: Thread, call: Called) -> None:
    args = parse(call.name, call.tokens)
    slot = thread.files.slots.get(args[0])
    tracker.event(thread, call, args, slot.file if slot else None)
    # close(2) frees the descriptor even where it fails, but for EBADF
    if not call.result.injected and call.result.errno != 9:
        tracker.saw.add("descriptors")
        tracker.released(thread, call, tracker.descriptions.close(thread.files, args[0]))


def _close_range(tracker: Tracker, thread: Thread, call: Called) -> None:
    args = parse(call.name, call.tokens)
    first, last, flags = args
    tracker.event(thread, call, args)
    if not _done(call):
        return
    if flags & constants.CLOSE_RANGE["CLOSE_RANGE_UNSHARE"]:
        tracker.unshare_files(thread)
    if flags & constants.CLOSE_RANGE["CLOSE_RANGE_CLOEXEC"]:
        for fd in [fd for fd in thread.files.slots if first <= fd <= last]:
            tracker.descriptions.set_cloexec(thread.files, fd, True)
        return
    tracker.released(thread, call, tracker.descriptions.close_range(thread.files, first, last))


def _unshare(tracker: Tracker, thread: Thread, call: Called) -> None:
    tracker.event(thread, call, parse(call.name, call.tokens))
    if _done(call) and (b"CLONE_FILES" in call.first or call.first == b"0x400"):
        tracker.unshare_files(thread)


def _other_descriptor(tracker: Tracker, thread: Thread, call: Called) -> None:
    """A descriptor of a kind that is never mapped: what its number meant before is gone."""
    released = []
    if _done(call):
        for fd in _new_descriptors(call):
            released += tracker.descriptions.close(thread.files, fd)
    tracker.event(thread, call, parse(call.name, call.tokens))
    tracker.released(thread, call, released)


def _new_descriptors(call: Called) -> list[int]:
    pair = _PAIRS.get(call.name)
    if pair is None:
        return [call.result.value or 0]
    token = bare_name(call.tokens[pair]) if pair < len(call.tokens) else b""
    numbers = [item.partition(b"<")[0] for item in split_list(token[1:-1])] if token.startswith(b"[") else []
    return [int(number) for number in numbers if number.isdigit()]


def _shmget(tracker: Tracker, thread: Thread, call: Called) -> None:
    args = parse(call.name, call.tokens)
    if _done(call) and call.result.value is not None:
        tracker.segment_sizes.setdefault(call.result.value, args[1])
        tracker.segment_keys[call.result.value] = args[0]
        if args[2] & constants.SHMGET["SHM_HUGETLB"]:
            tracker.huge_segments.add(call.result.value)
    tracker.event(thread, call, args)


def _shmat(tracker: Tracker, thread: Thread, call: Called) -> None:
    shmid, addr, flags, _ = parse(call.name, call.tokens)
    size = tracker.segment_sizes.get(shmid)
    file = None
    if _done(call):
        file = tracker.segments.get(shmid)
        if file is None:
            key = tracker.segment_keys.get(shmid)
            path = None if key is None else f"/SYSV{key & 0xFFFFFFFF:08x} (deleted)"
            file = tracker.segments[shmid] = tracker.descriptions.segment(
                shmid, size, path, shmid in tracker.huge_segments
            )
    tracker.event(thread, call, (shmid, addr, flags, size), file)


_PAIRS = {"pipe": 0, "pipe2": 0, "socketpair": 3}
_OTHERS = (
    "pipe pipe2 socketpair socket accept accept4 epoll_create epoll_create1 eventfd eventfd2 timerfd_create"
    " signalfd signalfd4 inotify_init inotify_init1 fanotify_init pidfd_open pidfd_getfd perf_event_open"
    " io_uring_setup mq_open open_by_handle_at open_tree fsopen fsmount fspick landlock_create_ruleset"
)

FILE_CALLS: dict[str, Handler] = {
    "mmap": _mmap,
    "mmap2": _mmap,
    **dict.fromkeys(("open", "openat", "openat2", "creat"), _open),
    **dict.fromkeys(("chdir", "fchdir"), _chdir),
    "memfd_create": _memfd_create,
    "userfaultfd": _userfaultfd,
    "ioctl": _ioctl,
    **dict.fromkeys(("dup", "dup2", "dup3"), _dup),
    **dict.fromkeys(("fcntl", "fcntl64"), _fcntl),
    "close": _close,
    "close_range": _close_range,
    "unshare": _unshare,
    **dict.fromkeys(_OTHERS.split(), _other_descriptor),
    "shmget": _shmget,
    "shmat": _shmat,
}
