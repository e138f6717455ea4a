"""A trace as a log of strace: reading it gives the same calls."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmastore.events import Event, FileInfo
from vmastore.importers.strace import StraceImporter, StraceReader
from vmastore.importers.strace.special import SPECIAL
from vmastore.reports.export_strace import export_strace

DATA = Path(__file__).parents[1] / "data"
CORPUS = Path(__file__).parents[3] / "shared" / "corpus"
LOGS = sorted((CORPUS / "strace-logs").glob("*.expected.json"))
OURS = [*sorted((DATA / "strace").glob("*.log")), DATA / "strace" / "ff", DATA / "attach" / "attach.log"]


def what(event: Event) -> tuple[Any, ...]:
    """An event but for its place in the log."""
    return event[:-2]


def read(text: str) -> tuple[list[Event], list[FileInfo]]:
    """The events of a log, and its files."""
    importer = StraceImporter(name="x", source="x", stacks="\n > " in text)
    events = importer.feed_batch(text.encode().splitlines()) + importer.finish()
    return events, importer.files


def written(files: list[FileInfo], events: list[Event]) -> str:
    """The log, every event of which is a line or follows from one."""
    out = io.StringIO()
    done = export_strace(files, events, out)
    assert done.left_out == {}
    assert done.events == sum(event.call != "release" for event in events)
    return out.getvalue()


def check_log(path: Path) -> None:
    reader = StraceReader([path])
    events = list(reader.events())
    again, files = read(written(reader.files, events))
    assert list(map(what, again)) == list(map(what, events))
    assert [f._replace(path=None, kind="", inode=None) for f in files] == [
        f._replace(path=None, kind="", inode=None) for f in reader.files
    ]
    for mine, theirs in zip(files, reader.files, strict=True):
        if (theirs.path or "").startswith("/"):
            assert mine == theirs


@pytest.mark.skipif(not LOGS, reason="the corpus of strace logs is not here")
@pytest.mark.parametrize("path", LOGS, ids=[path.name.partition(".")[0] for path in LOGS])
def test_the_logs_of_the_corpus_come_back(path: Path) -> None:
    """strace → events → strace → events: the same threads, arguments, results, times, stacks, files."""
    log = path.parent / path.name.replace(".expected.json", "")
    check_log(log / "log" if log.is_dir() else next(p for p in log.parent.glob(f"{log.name}.log*")))


@pytest.mark.parametrize("path", OURS, ids=[path.name for path in OURS])
def test_our_logs_come_back(path: Path) -> None:
    """The same of real logs of ours: a shell, threads, stderr, -ff with stacks, -p."""
    check_log(path)


_WORDS = st.sampled_from(
    [0, 1, 2, 3, 5, 8, 4096, 8192, 0x7F0000001000, 0x7F00_0000_3001, (1 << 64) - 4096, (1 << 64) - 1]
)
_SMALL = st.integers(0, 1 << 32)
_TEXT = st.text(max_size=20)
_NAME = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
_FDS = st.integers(-1, 12)
_MASKS = st.none() | st.integers(0, 1 << 200)
_IOV = st.none() | st.lists(st.tuples(_WORDS, _WORDS).map(list), max_size=3)
_CALLS: dict[str, Any] = {
    "mmap": (_WORDS, _WORDS, _SMALL, _SMALL.map(lambda n: n | 0x20), st.just(-1), _WORDS),
    "munmap": (_WORDS, _WORDS),
    "mprotect": (_WORDS, _WORDS, _SMALL),
    "pkey_mprotect": (_WORDS, _WORDS, _SMALL, st.integers(-1, 15)),
    "mremap": (_WORDS, _WORDS, _WORDS, st.integers(0, 3), _WORDS),
    "brk": (_WORDS,),
    "madvise": (_WORDS, _WORDS, _SMALL),
    "process_madvise": (
        _FDS,
        st.none() | st.lists(st.tuples(_WORDS, _WORDS).map(list), max_size=3),
        _WORDS,
        _SMALL,
        _WORDS,
    ),
    "mlock2": (_WORDS, _WORDS, _SMALL),
    "mlockall": (_SMALL,),
    "munlockall": (),
    "mbind": (_WORDS, _WORDS, _SMALL, _MASKS, _WORDS, _SMALL),
    "set_mempolicy": (_SMALL, _MASKS, _WORDS),
    "get_mempolicy": (_SMALL, _MASKS, _WORDS, _WORDS, _SMALL),
    "migrate_pages": (st.integers(0, 99), _WORDS, _MASKS, _MASKS),
    "mseal": (_WORDS, _WORDS, _WORDS),
    "msync": (_WORDS, _WORDS, _SMALL),
    "mincore": (_WORDS, _WORDS, _WORDS | _TEXT),
    "remap_file_pages": (_WORDS, _WORDS, _SMALL, _WORDS, _SMALL),
    "shmdt": (_WORDS,),
    "personality": (_SMALL,),
    "pkey_free": (st.integers(-1, 15),),
    "prlimit64": (st.integers(0, 99), st.integers(0, 15), _WORDS, _WORDS),
    "prctl": (st.integers(1, 1 << 30), _WORDS, _WORDS, _WORDS, _WORDS | _TEXT, st.none()),
    "openat": (st.sampled_from([-100, 3]), _NAME, _SMALL, st.none() | st.integers(0, 0o7777)),
    "memfd_create": (_NAME, st.integers(0, 3)),
    "close": (_FDS,),
    "getrandom": (_WORDS | _TEXT, _WORDS | _TEXT),
}
_RESULTS = st.tuples(st.sampled_from([0, 3, 4, 0x7F0000001000, (1 << 63) - 1]), st.just(0)) | st.tuples(
    st.none(), st.sampled_from([1, 9, 12, 22, 95, 512, 524, 4000])
)


@st.composite
def _events(draw: st.DrawFn) -> Event:
    call = draw(st.sampled_from(sorted(_CALLS)))
    args = draw(st.tuples(*_CALLS[call]))
    value, errno = draw(_RESULTS)
    injected = draw(st.booleans()) if call not in ("openat", "memfd_create") or errno else False
    return Event(1, 1, 7, 7, draw(st.none() | st.integers(0, 4 * 10**18)), call, args, value, errno, None, injected)


@settings(max_examples=300, deadline=None)
@given(_events())
def test_any_call_comes_back(event: Event) -> None:
    """Calls of random arguments: text with any character, masks, lists, flags that no table has."""
    if event.call in ("openat", "memfd_create") and not event.errno:
        event = event._replace(file=1)
    again, _ = read(written([], [event]))
    assert [what(other)[1:4] + what(other)[5:] for other in again] == [what(event)[1:4] + what(event)[5:]]
    assert again[0].ts_ns == event.ts_ns


def test_every_call_with_a_form_is_tried() -> None:
    """The calls that are more than numbers are in the corpus or above."""
    rest = set(SPECIAL) - set(_CALLS)
    assert rest <= {
        *("move_pages", "ioctl", "shmat", "io_setup", "setrlimit", "execve", "execveat", "open", "openat2", "creat"),
        *("dup2", "dup3", "fcntl", "fcntl64"),
    }  # fmt: skip
    text = (
        "7 move_pages(0, 2, [0x1000, 0x2000], [0, 1], [-2, -14], MPOL_MF_MOVE) = 0\n"
        "7 userfaultfd(O_CLOEXEC) = 3\n"
        "7 ioctl(3, UFFDIO_API, {api=0xaa, features=0x10}) = 0\n"
        "7 ioctl(3, UFFDIO_REGISTER, {range={start=0x1000, len=0x2000}, mode=0x1}) = 0\n"
        "7 ioctl(3, UFFDIO_COPY, {dst=0x1000, src=0x5000, len=0x1000, mode=0}) = 0\n"
        "7 ioctl(3, UFFDIO_WRITEPROTECT, {range={start=0x1000, len=0x1000}, mode=0x1}) = -1 ENOENT (x)\n"
        "7 ioctl(1, TCGETS, {c_iflag=0, c_oflag=0}) = 0\n7 ioctl(9, 0x5401, 0x7ffc) = -1 EBADF (x)\n"
        "7 shmget(IPC_PRIVATE, 8192, IPC_CREAT|0600) = 5\n7 shmat(5, NULL, SHM_RDONLY) = 0x7f0000000000\n"
        "7 io_setup(1, [0x7f]) = 0\n7 setrlimit(RLIMIT_AS, {rlim_cur=1, rlim_max=RLIM64_INFINITY}) = 0\n"
        '7 open("/a b", O_RDWR|O_NEWTHING) = 4\n7 openat2(3, "x", {flags=O_RDONLY, mode=0, resolve=0}, 24) = 6\n'
        '7 creat("/c", 0644) = 7\n7 dup2(7, 8) = 8\n7 dup3(7, 9, O_CLOEXEC) = 9\n'
        "7 fcntl(7, F_SETFD, FD_CLOEXEC) = 0\n"
        "7 fcntl(7, F_DUPFD_CLOEXEC, 20) = 20\n7 fcntl64(7, F_GETFL) = 0x8000\n"
        '7 execveat(3, "", ["a\\"b"], NULL, AT_EMPTY_PATH) = -1 ENOSYS (x)\n'
        '7 execve("/x\\n", ["a", "b\\300"], NULL) = 0\n'
        '7 prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, 0x1000, 4096, "n\\"m") = 0\n'
        '7 prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, 0x1000, 4096, NULL) = 0\n7 prctl(PR_SET_NAME, "x") = 0\n'
        "7 fork() = 8\n8 vfork() = 9\n9 clone3({flags=CLONE_VM|CLONE_THREAD, exit_signal=0}, 88) = 10\n"
        "9 clone(0x1200011, 0, 0, 0, 0) = 11\n9 clone3(0x7f00, 88) = 12\n"
        "10 mremap(0x1000, 4096, 4096, 0x5, 0) = 0x9000\n"
        "9 --- SIGSEGV {si_signo=SIGSEGV, si_code=SEGV_MAPERR, si_addr=NULL} ---\n9 --- stopped by SIGSTOP ---\n"
        "9 --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=3} ---\nstrace: Process 12 attached\n"
        "9 +++ superseded by execve in pid 10 +++\n8 +++ killed by SIGKILL +++\n11 +++ exited with 7 +++\n"
    )
    events, files = read(text)
    assert len(events) == len(text.splitlines()) + 1  # the exec releases the userfaultfd
    again, _ = read(written(files, events))
    assert list(map(what, again)) == list(map(what, events))


def test_what_is_no_line_of_straces_is_counted() -> None:
    """Observations, faults and notes have no line; the rest is written."""
    events = [
        Event(1, 1, 7, 7, None, "maps", ("baseline", 0, None, []), 0, 0),
        Event(2, 1, 7, 7, None, "fault", (0x1000, 4096, "w", None, "user"), None, 0),
        Event(3, 1, 7, 7, None, "munmap", (0x1000, 4096), 0, 0),
    ]
    out = io.StringIO()
    assert export_strace([], events, out) == (1, {"maps": 1, "fault": 1})
    assert out.getvalue() == "7 munmap(0x1000, 4096) = 0\n"
