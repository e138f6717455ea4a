"""Arguments in all their forms give the same values."""

from __future__ import annotations

from typing import Any

import pytest

from vmastore.events import CALLS
from vmastore.importers.strace import constants, values
from vmastore.importers.strace.arguments import SIMPLE, clone_flags, parse
from vmastore.importers.strace.scan import Unparsed, split_list
from vmastore.importers.strace.special import SPECIAL
from vmastore.importers.strace.tokens import decoration

SAME = [
    (
        "mmap",
        (0, 2097152, 3, 0x20 | 2 | 0x40000 | 21 << 26, -1, 0x1000),
        [
            "NULL, 2097152, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANON|MAP_HUGETLB|21<<MAP_HUGE_SHIFT, -1, 0x1000",
            "NULL, 2097152, 0x3, 0x54040022, -1, 0x1000",
            "NULL, 2097152, 0x3 /* PROT_READ|PROT_WRITE */, 0x54040022 /* MAP_PRIVATE|MAP_X */, -1, 0x1000",
            "0, 0x200000, 0x3, 0x54040022, 0xffffffff, 0x1000",
            "addr=NULL, length=2097152, prot=PROT_READ|PROT_WRITE, flags=0x54040022, fd=-1, offset=0x1000",
        ],
    ),
    ("mprotect", (0x1000, 1 << 64 - 1, 0x80), ["0x1000, 9223372036854775808, 0x80 /* PROT_??? */"]),
    ("mmap2", (0, 4096, 1, 2, 3, 0x5000), ["NULL, 4096, PROT_READ, MAP_PRIVATE, 3</lib/a, b>, 0x5000"]),
    ("mremap", (0x7000, 1, 2, 1, 0), ["0x7000, 1, 2, MREMAP_MAYMOVE", "0x7000, 0x1, 0x2, 0x1, 0"]),
    ("mremap", (0x7000, 1, 2, 3, 0x9000), ["0x7000, 1, 2, MREMAP_MAYMOVE|MREMAP_FIXED, 0x9000"]),
    ("madvise", (0x1000, 8, 102), ["0x1000, 8, 0x66 /* MADV_??? */", "0x1000, 8, MADV_GUARD_INSTALL"]),
    ("mseal", (0x7F00, 0x4000, 0), ["0x7f00, 0x4000, 0", "0x7f00, 0x4000, 0, 0xffffffff, 0, 0"]),
    ("pkey_mprotect", (1, 2, 0, -1), ["0x1, 2, PROT_NONE, -1", "0x1, 2, 0, 0xffffffff"]),
    ("munlockall", (), [""]),
    (
        "process_madvise",
        (5, [[0x7F00, 8192], [0x9F00, 4096]], 2, 20, 0),
        ["5, [{iov_base=0x7f00, iov_len=8192}, {iov_base=0x9f00, iov_len=4096}], 2, MADV_COLD, 0"],
    ),
    ("process_madvise", (5, None, 2, 20, 0), ["5, 0x7ffe, 2, MADV_COLD, 0"]),
    (
        "mbind",
        (0x1000, 8, 0x8002, 1 << 64 | 3, 128, 1),
        ["0x1000, 8, MPOL_BIND|MPOL_F_STATIC_NODES, [0x00000000000003, 0x00000000000001], 128, MPOL_MF_STRICT"],
    ),
    ("mbind", (0x1000, 8, 0, None, 0, 0), ["0x1000, 8, MPOL_DEFAULT, NULL, 0, 0"]),
    ("get_mempolicy", (0, 0, 64, 0x7F, 2), ["[MPOL_DEFAULT], [0000000000000000], 64, 0x7f, MPOL_F_ADDR"]),
    ("migrate_pages", (0, 64, 1, 2), ["0, 64, [0000000000000001], [0000000000000002]"]),
    ("move_pages", (0, 1, [0x7F], [0], "[0]", 0), ["0, 1, [0x7f], [0], [0], 0"]),
    (
        "prctl",
        (0x53564D41, 0, 0x7F, 16384, None, 'glibc: "arena"'),
        [
            'PR_SET_VMA, PR_SET_VMA_ANON_NAME, 0x7f, 16384, "glibc: \\"arena\\""',
            '0x53564d41, 0, 0x7f, 0x4000, "glibc: \\"arena\\""',
        ],
    ),
    (
        "prctl",
        (0x53564D41, 0, 0x7F, 1, 0, None),
        ["PR_SET_VMA, PR_SET_VMA_ANON_NAME, 0x7f, 1, NULL", "PR_SET_VMA, 0, 0x7f, 0x1, 0"],
    ),
    ("prctl", (0x53564D41, 0, 0x7F, 1, 0x55, "@0x55"), ["PR_SET_VMA, 0, 0x7f, 0x1, 0x55"]),
    ("prctl", (41, 1, 0, 0, 0, None), ["PR_SET_THP_DISABLE, 1, 0, 0, 0", "PR_SET_THP_DISABLE, 1"]),
    ("prctl", (15, "worker", 0, 0, 0, None), ['PR_SET_NAME, "worker"']),
    (
        "ioctl",
        (6, "UFFDIO_REGISTER", 0x7F, 0x8000, 1, None),
        [
            "6, UFFDIO_REGISTER, {range={start=0x7f, len=0x8000}, mode=UFFDIO_REGISTER_MODE_MISSING, ioctls=0x13c}",
            "6<anon_inode:[userfaultfd]>, 0xc020aa00 /* UFFDIO */, {range={start=0x7f, len=0x8000}, mode=0x1}",
        ],
    ),
    ("ioctl", (6, "UFFDIO_UNREGISTER", 0x7F, 0x4000, None, None), ["6, UFFDIO_UNREGISTER, {start=0x7f, len=0x4000}"]),
    (
        "ioctl",
        (6, "UFFDIO_UNREGISTER", None, None, None, None),
        ["6, UFFDIO_UNREGISTER, 0x1", "0x6, 0x8010aa01, 0x1"],
    ),
    (
        "ioctl",
        (3, "UFFDIO_API", None, None, None, 0x80),
        ["3, UFFDIO_API, {api=0xaa, features=UFFD_FEATURE_SIGBUS => features=UFFD_FEATURE_EVENT_FORK, ioctls=0}"],
    ),
    ("ioctl", (1, "TCGETS", None, None, None, None), ["1, TCGETS, {c_iflag=0x1}"]),
    ("shmat", (16, 0, 0o10000, None), ["16, NULL, SHM_RDONLY"]),
    ("shmget", (0, 131072, 0o1600), ["IPC_PRIVATE, 131072, IPC_CREAT|0600", "0, 0x20000, 0x380"]),
    ("personality", (0x440000,), ["PER_LINUX|ADDR_NO_RANDOMIZE|READ_IMPLIES_EXEC", "0x440000"]),
    (
        "prlimit64",
        (0, 8, 65536, 2**64 - 1),
        ["0, RLIMIT_MEMLOCK, {rlim_cur=64*1024, rlim_max=RLIM64_INFINITY}, {rlim_cur=1, rlim_max=2}"],
    ),
    ("prlimit64", (0, 3, None, None), ["0, RLIMIT_STACK, NULL, {rlim_cur=8192*1024, rlim_max=RLIM64_INFINITY}"]),
    (
        "openat",
        (-100, "/a, (b)", 0o2000002, None),
        ['AT_FDCWD, "/a, (b)", O_RDWR|O_CLOEXEC', 'AT_FDCWD</tmp>, "/a, (b)", 0x80002'],
    ),
    ("open", (-100, "a", 0o102, 0o600), ['"a", O_RDWR|O_CREAT, 0600', '"a", 0x42, 0600']),
    ("openat2", (-100, "a", 0, 0), ['AT_FDCWD, "a", {flags=O_RDONLY, mode=0, resolve=0}, 24']),
    ("dup3", (3, 5, 0o2000000), ["3</a>, 5, O_CLOEXEC"]),
    ("fcntl", (3, 1030, 10), ["3</a>, F_DUPFD_CLOEXEC, 10", "3, 0x406, 10"]),
    ("fcntl", (3, 2, 1), ["3, F_SETFD, FD_CLOEXEC", "3, F_SETFD, 0x1"]),
    ("close_range", (3, 0xFFFFFFFF, 4), ["3, 4294967295, CLOSE_RANGE_CLOEXEC"]),
    ("memfd_create", ('mem "q" fd', 1), ['"mem \\"q\\" fd", MFD_CLOEXEC']),
    (
        "execve",
        ("/bin/a", ["a", "-b"], None),
        ['"/bin/a", ["a", "-b"], 0x7ff /* 39 vars */', '"/bin/a", ["a", "-b"], [/* 39 vars */]'],
    ),
    ("execve", ("0x7f1", 0x7F2, None), ["0x7f1, 0x7f2, 0x7f3"]),
    ("read", (3, "\x7fELF", 832), ['3</lib/a>, "\\177ELF"..., 832']),
    ("futex", ("0x1f /* ? */|X", 2, "{tv_sec=1}"), ["0x1f /* ? */|X, 2, {tv_sec=1}"]),
]


@pytest.mark.parametrize(("name", "expected", "forms"), SAME, ids=[f"{row[0]}-{n}" for n, row in enumerate(SAME)])
def test_every_form_gives_the_same_values(name: str, expected: tuple[Any, ...], forms: list[str]) -> None:
    """Abbreviated, raw, verbose and named arguments are the same ints."""
    for text in forms:
        assert parse(name, split_list(text.encode())) == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mmap", "0x7f"),
        ("mprotect", "0x1000, 8, PROT_WHAT"),
        ("munmap", "0x1000, fake"),
        ("mbind", "1"),
        ("munmap", "0x1000, 1<<99999999"),
        ("mprotect", "1, 2, 1<<1<<1"),
        ("process_madvise", "5, [{iov_base=0x7f00}], 1, MADV_COLD, 0"),
    ],
)
def test_what_does_not_parse_is_unparsed(name: str, text: str) -> None:
    """An unknown flag, a missing argument or a number that cannot be is refused."""
    with pytest.raises(Unparsed):
        parse(name, split_list(text.encode()))


CLONES = [
    ("fork", "", 17),
    ("vfork", "", 0x4111),
    ("clone", "child_stack=NULL, flags=CLONE_CHILD_CLEARTID|SIGCHLD, child_tidptr=0x7f", 0x200011),
    ("clone", "0x1200011, 0, 0, 0x7f53aebb2e50, 0", 0x1200011),
    ("clone3", "{flags=CLONE_VM|CLONE_VFORK, exit_signal=SIGCHLD, stack=0x7f, stack_size=0x9000}, 88", 0x4111),
    ("clone3", "cl_args={flags=CLONE_VM, exit_signal=0} => {parent_tid=[6452]}, size=88", 0x100),
    ("clone3", "0x7ffd04fce1f0, 0x58", None),
    ("clone", "child_stack=NULL, flags=CLONE_OF_THE_FUTURE", None),
]


@pytest.mark.parametrize(("name", "text", "flags"), CLONES)
def test_clone_flags(name: str, text: str, flags: int | None) -> None:
    """The flags of every call that makes a thread; None where they are hidden."""
    assert clone_flags(name, split_list(text.encode())) == flags


def test_every_parser_knows_its_calls_arguments() -> None:
    """What is parsed has as many values as the table of calls has names."""
    for name, memos in SIMPLE.items():
        assert len(memos) == len(CALLS[name]), name
    assert set(SPECIAL) - {"fcntl64"} <= set(CALLS)


@pytest.mark.parametrize(
    ("token", "path"),
    [
        (b"3</etc/ld.so.cache>", "/etc/ld.so.cache"),
        (b"3</dev/zero<char 1:5>>", "/dev/zero"),
        (b"4</memfd:x\\74y>(deleted)", "/memfd:x<y"),
        (b"4</tmp/a (deleted)>", "/tmp/a"),
        (b"fd=3<anon_inode:[userfaultfd]>", "anon_inode:[userfaultfd]"),
        (b"3", None),
    ],
)
def test_the_path_behind_a_descriptor(token: bytes, path: str | None) -> None:
    """-y and -yy show one path, whether the file is deleted or a device."""
    assert decoration(token) == path


def test_a_memo_forgets_before_it_grows_without_bound() -> None:
    """Memory does not grow with the number of different tokens."""
    memo = values.Memo(int)
    for n in range(2 * values.MEMO_LIMIT + 5):
        assert memo[b"%d" % n] == n
        assert len(memo) <= values.MEMO_LIMIT


def test_flag_tables_agree_with_the_c_library() -> None:
    """Where Python knows a flag's value too, it is ours."""
    import mmap
    import os

    for table in (constants.PROT, constants.MAP, constants.MADV):
        for name, value in table.items():
            assert getattr(mmap, name, value) == value, name
    skipped = {"O_LARGEFILE", "O_ACCMODE"}  # 0 to a 64-bit C library
    for table in (constants.OPEN, constants.MFD, constants.CLONE, constants.RLIMIT):
        for name, value in table.items():
            assert name in skipped or getattr(os, name, value) == value, name
