"""Which open file description each event names."""

from __future__ import annotations

import pytest

from vmastore.events import Event, FileInfo
from vmastore.importers.strace import StraceImporter
from vmastore.importers.strace.filecalls import FILE_CALLS
from vmastore.importers.strace.remote import REMOTE_CALLS

START = '60 execve("/bin/a", ["a"], 0x7f /* 1 var */) = 0\n'


def _read(text: str) -> tuple[StraceImporter, list[Event]]:
    importer = StraceImporter(name="t", source="t")
    lines = [line if line[:1].isdigit() else f"60 {line}" for line in text.splitlines()]
    events = importer.feed_batch([line.encode() for line in lines]) + importer.finish()
    assert all(event.file is None or event.file <= len(importer.files) for event in events)
    return importer, events


def _mapped(text: str) -> list[int | None]:
    """The files of the mmap events."""
    return [event.file for event in _read(text)[1] if event.call in ("mmap", "mmap2")]


def _map(fd: str) -> str:
    return f"mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, {fd}, 0) = 0x7f00\n"


OPEN = 'openat(AT_FDCWD, "/a", O_RDONLY|O_CLOEXEC) = 3\n'


def test_two_opens_of_one_path_are_two_descriptions() -> None:
    """What merges is the description, not the path."""
    assert _mapped(OPEN + _map("3") + "close(3) = 0\n" + OPEN + _map("3") + _map("3")) == [1, 2, 2]


@pytest.mark.parametrize(
    ("call", "fd"),
    [
        ("dup(3) = 7", 7),
        ("dup2(3, 7) = 7", 7),
        ("dup3(3, 7, O_CLOEXEC) = 7", 7),
        ("fcntl(3, F_DUPFD, 7) = 7", 7),
        ("fcntl(3, F_DUPFD_CLOEXEC, 7) = 7", 7),
        ("dup2(3, 3) = 3", 3),
    ],
)
def test_a_duplicate_is_the_same_description(call: str, fd: int) -> None:
    """dup and its kin share, also after the original is closed."""
    assert _mapped(f"{OPEN}{call}\n{_map(str(fd))}close(3) = 0\n{_map(str(fd)) if fd != 3 else ''}")[0] == 1


def test_a_replaced_descriptor_is_the_other_description() -> None:
    """dup2 over an open descriptor closes it first."""
    second = 'openat(AT_FDCWD, "/b", O_RDWR) = 4\n'
    assert _mapped(OPEN + second + "dup2(3, 4) = 4\n" + _map("4")) == [1]


@pytest.mark.parametrize(
    ("call", "info"),
    [
        ('open("/dev/zero", O_RDWR) = 3', FileInfo(1, "/dev/zero", "zero", True, True, flags=2)),
        ('creat("/x", 0600) = 3', FileInfo(1, "/x", "regular", False, True, flags=0o101)),
        (
            'openat2(AT_FDCWD, "x", {flags=O_PATH}, 24) = 3',
            FileInfo(1, "x", "regular", False, False, flags=0o10000000),
        ),
        ('open("x", O_WRONLY) = 3</y/x>', FileInfo(1, "/y/x", "regular", False, True, flags=1)),
        (
            'memfd_create("m", MFD_CLOEXEC) = 3</memfd:m>(deleted)',
            FileInfo(1, "/memfd:m", "memfd", True, True, flags=2),
        ),
        ('memfd_create("m", MFD_HUGETLB) = 3', FileInfo(1, "/memfd:m", "hugetlb", True, True, flags=2)),
        ("userfaultfd(O_NONBLOCK) = 3", FileInfo(1, "anon_inode:[userfaultfd]", "uffd", True, True, flags=2)),
        ('open("/dev/nvidia0", O_RDWR) = 3', FileInfo(1, "/dev/nvidia0", "device", True, True, flags=2)),
        ('open("x", O_RDWR|O_OF_THE_FUTURE) = 3</x>', FileInfo(1, "/x", "regular", None, None)),
    ],
)
def test_what_is_known_of_a_file(call: str, info: FileInfo) -> None:
    """Path, kind and access of a description, from the call that makes it."""
    importer, events = _read(call + "\n" + _map("3"))
    assert importer.files[0] == info
    assert [event.file for event in events] == [1, 1]


def test_a_fork_inherits_and_a_thread_shares() -> None:
    """A forked child's close leaves the parent's descriptor open; a thread's does not."""
    child = f"fork() = 61\n61 close(3) = 0\n61 {_map('3')}{_map('3')}"
    assert _mapped(OPEN + child) == [2, 1]
    thread = f"clone(child_stack=0x7, flags=CLONE_VM|CLONE_FILES|CLONE_THREAD) = 61\n61 close(3) = 0\n{_map('3')}"
    assert _mapped(OPEN + thread) == [2]


def test_a_thread_may_leave_the_shared_table() -> None:
    """unshare(CLONE_FILES) and close_range(CLOSE_RANGE_UNSHARE) give a table of its own."""
    for call in ("unshare(CLONE_FILES) = 0\n61 close(3) = 0", "close_range(3, 4294967295, CLOSE_RANGE_UNSHARE) = 0"):
        text = f"{OPEN}clone(child_stack=0x7, flags=CLONE_VM|CLONE_FILES|CLONE_THREAD) = 61\n61 {call}\n{_map('3')}"
        assert _mapped(text) == [1]


def test_exec_closes_what_is_marked() -> None:
    """O_CLOEXEC, F_SETFD and CLOSE_RANGE_CLOEXEC descriptors are gone in the new program, others stay."""
    names = {3: "O_RDONLY|O_CLOEXEC", 4: "O_RDONLY", 5: "O_RDONLY", 6: "O_RDONLY"}
    opens = "".join(f'open("/{fd}", {flags}) = {fd}\n' for fd, flags in names.items())
    marks = "fcntl(5, F_SETFD, FD_CLOEXEC) = 0\nclose_range(6, 6, CLOSE_RANGE_CLOEXEC) = 0\n"
    assert _mapped(START + opens + marks + START + "".join(_map(fd) for fd in "3456")) == [5, 2, 6, 7]


def test_a_descriptor_of_unknown_origin_is_a_file_of_its_own_until_closed() -> None:
    """Unknown descriptors are told apart, labelled, and have the path that -y shows."""
    importer, events = _read(_map("3") + _map("4") + _map("3") + "close(3) = 0\n" + _map("3"))
    assert [event.file for event in events if event.call == "mmap"] == [1, 2, 1, 3]
    assert {info.origin for info in importer.files} == {"unknown"}


def test_paths_stand_in_for_opens_that_are_not_traced() -> None:
    """-e trace=memory -y: a descriptor that shows another path is another file, and the header says so."""
    libc, cache = "3</lib/libc.so.6>", "3</etc/ld.so.cache>"
    importer, events = _read(_map(cache) + _map(libc) + _map(libc) + _map("3</tmp/x>") + _map("3</tmp/x>(deleted)"))
    assert [event.file for event in events] == [1, 2, 2, 3, 3]
    assert [info.path for info in importer.files] == ["/etc/ld.so.cache", "/lib/libc.so.6", "/tmp/x"]
    assert "descriptor and path" in (importer.header.note or "")


def test_a_path_that_differs_means_a_missed_open() -> None:
    """-y is a cross-check of the tracked description."""
    opened = 'openat(AT_FDCWD, "/a", O_RDONLY) = 3</a>\n'
    assert _mapped(opened + _map("3</a>") + _map("3</b>")) == [1, 2]


def test_descriptors_that_are_never_mapped_replace_what_was_there() -> None:
    """A number that a pipe or socket gets is not the file it was: its close was missed."""
    for call in (
        "pipe2([3, 4], O_CLOEXEC) = 0",
        "socketpair(AF_UNIX, SOCK_STREAM, 0, [3<a>, 4]) = 0",
        "eventfd2(0, 0) = 3",
    ):
        assert _mapped(OPEN + call + "\n" + _map("3")) == [2]


def test_anonymous_and_failed_mappings_name_no_unknown_file() -> None:
    """MAP_ANONYMOUS ignores its descriptor; a failed mmap of an unknown one invents nothing."""
    importer, events = _read(
        "mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, 3, 0) = 0x7f00\n"
        "mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 9, 0) = -1 EBADF (Bad file descriptor)\n"
        "mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, -1, 0) = -1 EBADF (Bad file descriptor)\n"
    )
    assert [event.file for event in events] == [None, None, None]
    assert importer.files == []


UFFD = "userfaultfd(O_CLOEXEC) = 3\n"
RELEASES = {
    "close": "close(3) = 0",
    "dup2 over it": "dup2(4, 3) = 3",
    "open in its place": 'open("/b", O_RDONLY) = 3',
    "close_range": "close_range(0, 4294967295, 0) = 0",
    "exec": 'execve("/bin/b", ["b"], 0x7f) = 0',
    "exit": "+++ exited with 0 +++",
}


@pytest.mark.parametrize("last", RELEASES.values(), ids=RELEASES)
def test_the_last_reference_of_a_userfaultfd_is_an_event(last: str) -> None:
    """->release runs when the last descriptor goes, in whatever way."""
    _, events = _read(START + UFFD + last + "\n")
    assert [(event.call, event.file, event.mm) for event in events[-1:]] == [("release", 1, 1)]


def test_a_userfaultfd_lives_as_long_as_anybody_has_it() -> None:
    """A duplicate or a child's copy keeps it; the release names the mm that it watched."""
    _, events = _read(
        START + UFFD + "dup(3) = 5\nclose(3) = 0\nfork() = 61\nclose(5) = 0\n61 close(3) = -1 EBADF (Bad)\n"
    )
    assert "release" not in [event.call for event in events]
    _, events = _read(START + UFFD + "fork() = 61\nclose(3) = 0\n61 close(3) = 0\n")
    assert [(event.tid, event.mm) for event in events if event.call == "release"] == [(61, 1)]


def test_ioctls_name_their_userfaultfd() -> None:
    """Also one that was made out of sight, or through /dev/userfaultfd."""
    register = "ioctl({}, UFFDIO_REGISTER, {{range={{start=0x7f, len=0x1000}}, mode=0x1}}) = 0\n"
    _, events = _read(START + UFFD + register.format(3) + register.format("9<anon_inode:[userfaultfd]>"))
    assert [event.file for event in events[2:]] == [1, 2]
    made = 'open("/dev/userfaultfd", O_RDWR) = 3\nioctl(3</dev/userfaultfd>, USERFAULTFD_IOC_NEW, O_CLOEXEC) = 4\n'
    importer, events = _read(START + made + register.format(4))
    assert [event.file for event in events[1:]] == [1, 2, 2]
    assert importer.files[1].kind == "uffd"


def test_a_shared_memory_segment_is_one_file_with_its_size() -> None:
    """shmat has the size that shmget asked for; each attachment of a segment is the same file."""
    _, events = _read(
        "shmget(IPC_PRIVATE, 131072, IPC_CREAT|0600) = 16\nshmat(16, NULL, 0) = 0x7f\nshmat(16, NULL, 0) = 0x8f\n"
    )
    assert [(event.args, event.file) for event in events[1:]] == [((16, 0, 0, 131072), 1)] * 2
    _, events = _read("shmat(17, NULL, 0) = 0x7f\n")
    assert events[0].args == (17, 0, 0, None)


def test_a_segment_of_huge_pages_is_a_file_of_its_own_kind() -> None:
    """shmget's SHM_HUGETLB tells; one that was asked for without it is what it was made as."""
    made = "shmget(0x1, 4096, IPC_CREAT|SHM_HUGETLB|0600) = 16\nshmget(0x1, 4096, 0) = 16\n"
    importer, _ = _read(made + "shmat(16, NULL, 0) = 0x200000\n")
    assert [(file.kind, file.path) for file in importer.files] == [("hugeshm", "/SYSV00000001 (deleted)")]


def test_what_strace_injected_changes_no_table() -> None:
    """A faked close leaves the descriptor open, a faked open makes none."""
    assert _mapped(OPEN + "close(3) = 0 (INJECTED)\n" + _map("3")) == [1]
    importer, _ = _read('open("/a", O_RDONLY) = 3 (INJECTED)\n')
    assert importer.files == []


@pytest.mark.parametrize("arguments", [b"", b"1", b"AT_FDCWD</tmp>", b"1, 2"])
@pytest.mark.parametrize("call", sorted({*FILE_CALLS, *REMOTE_CALLS, "execve", "execveat"}))
def test_a_call_with_too_few_arguments_is_an_event_or_a_skip(call: str, arguments: bytes) -> None:
    """What a damaged line does not show is missed by no handler: the line is accounted for, whatever it answered."""
    for result in (b"0", b"3", b"-1 EINVAL (Invalid argument)"):
        importer = StraceImporter(name="x", source="x")
        importer.feed(b"7 %s(%s) = %s\n" % (call.encode(), arguments, result))
        importer.finish()
        account = importer.account
        assert (account.lines, account.recorded + account.skipped_lines, account.unaccounted) == (1, 1, 0)
