"""Which calls strace is asked to trace.

strace takes no call that it has no name for, by number neither: one that is older than mseal traces it only when
it is told what *not* to trace. It then prints it by number, as it does with what else is newer than itself.
"""

from __future__ import annotations

import platform

from vmastore.importers.strace.numbers import NAMES
from vmastore.recorder.copies import COPYING

KNOWS_ALL = (6, 10)  # the first strace that has names for all that is traced

# What becomes events. desc would trace read and write too; the calls that make and close descriptors are enough.
_TRACED = (
    "memory,process,open,openat,?openat2,creat,close,?close_range,dup,dup2,dup3,fcntl,?memfd_create,?memfd_secret,"
    "?userfaultfd,ioctl,?process_madvise,prctl,shmget,personality,prlimit64,setrlimit,?pkey_alloc,?pkey_free,"
    "?mseal,?map_shadow_stack,?set_mempolicy_home_node,?process_vm_writev"
)

# strace's classes "memory" and "process" by name
_CLASSES = """
    mmap mprotect munmap brk mremap msync mincore madvise shmat shmdt mlock munlock mlockall munlockall io_setup
    io_destroy remap_file_pages mbind set_mempolicy get_mempolicy migrate_pages move_pages mlock2 pkey_mprotect
    process_mrelease clone fork vfork execve exit wait4 kill rt_sigqueueinfo tkill exit_group tgkill waitid
    rt_tgsigqueueinfo execveat pidfd_send_signal clone3
"""

# what 32-bit processes alone have, without the calls that are traced (mmap2, fcntl64 …), and without signal and ipc,
# which to strace are classes
_OF_32_BITS = """
    oldstat break oldfstat stime stty gtty nice ftime prof lock mpx ulimit oldolduname sgetmask ssetmask
    sigsuspend sigpending oldlstat readdir profil socketcall olduname idle vm86old sigreturn sigprocmask bdflush
    _llseek _newselect vm86 ugetrlimit truncate64 ftruncate64 stat64 lstat64 fstat64 lchown32 getuid32 getgid32
    geteuid32 getegid32 setreuid32 setregid32 getgroups32 setgroups32 fchown32 setresuid32 getresuid32 setresgid32
    getresgid32 chown32 setuid32 setgid32 setfsuid32 setfsgid32 sendfile64 statfs64 fstatfs64 fadvise64_64 fstatat64
    arm_fadvise64_64 oldumount umount oldselect oldgetrlimit sigaction clock_gettime64 clock_settime64
    clock_adjtime64 clock_getres_time64 clock_nanosleep_time64 timer_gettime64 timer_settime64 timerfd_gettime64
    timerfd_settime64 utimensat_time64 pselect6_time64 ppoll_time64 io_pgetevents_time64 recvmmsg_time64
    mq_timedsend_time64 mq_timedreceive_time64 semtimedop_time64 rt_sigtimedwait_time64 futex_time64
    sched_rr_get_interval_time64
"""


def traced(*, copies: bool, by_name: bool) -> str:
    """What follows ``trace=``.

    copies: with the calls of COPYING.
    by_name: this strace has names for all that is traced (see KNOWS_ALL); else all other calls that we know are left
    out.
    """
    wanted = f"{_TRACED},{COPYING}" if copies else _TRACED
    return wanted if by_name or platform.machine() != "x86_64" else "!" + ",".join(_others(wanted))


def _others(wanted: str) -> list[str]:
    """All calls but `wanted`, of 64 bits and of 32.

    None of x32, which hardly a kernel has: what strace gives to seccomp is then shortest as a list of calls, which
    lets numbers beyond it stop a program too, while the table that it else takes lets them pass.
    """
    kept = {name.lstrip("?") for name in wanted.split(",")} | set(_CLASSES.split())
    names = [name for name in [*NAMES.values(), *_OF_32_BITS.split()] if name not in kept]
    return [f"?{name}@{bits}" for name in names for bits in (64, 32)]
