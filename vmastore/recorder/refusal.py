"""Why a process cannot be attached to: strace says no more than "Operation not permitted"."""

from __future__ import annotations

import os
import pwd
import re
from pathlib import Path
from typing import NamedTuple

from vmastore.recorder import proc

_CAP_SYS_PTRACE = 19
_SUDO = "As root, any process can be recorded: use sudo."
_YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")
_SCOPES = {
    1: "only ancestors of a process may trace it",
    2: "only processes with CAP_SYS_PTRACE may trace",
    3: "no process may trace another by attaching to it",
}


class Refusal(NamedTuple):
    """What stands against attaching, and what can be done."""

    message: str
    hint: str | None = None


def certain(pid: int) -> Refusal | None:
    """What nobody can attach to; None: nothing is known against it."""
    threads = proc.threads_of(pid)
    if not threads:
        return Refusal(f"there is no process {pid}")
    leader = proc.leader_of(pid)
    if leader and leader != pid:
        return Refusal(f"{pid} is a thread of process {leader}", f"Record it with: vmastore record -p {leader}")
    if proc.is_kernel_thread(pid):
        return Refusal(f"{pid} is a thread of the kernel, which has no address space")
    tracer = proc.tracer_of(pid)
    if tracer:
        return Refusal(f"process {pid} is traced by process {tracer} already", "Only one can trace it.")
    return _ended(pid, [tid for tid in threads if tid != pid]) if proc.state_of(pid) == "" else None


def _ended(pid: int, others: list[int]) -> Refusal:
    """Of one whose first thread has no life left: Linux lets nobody attach to that."""
    if others:
        return Refusal(
            f"the first thread of process {pid} has ended, and strace attaches to a process by that one",
            f"{len(others)} other threads run; start the program with: vmastore record -- …",
        )
    parent = _status(pid).get("PPid", "0")
    return Refusal(
        f"process {pid} has ended; its parent {parent} has not asked for its status yet (a zombie)",
        "What runs of the same program: ps -e -o pid,ppid,stat,args",
    )


def likely(pid: int) -> Refusal | None:
    """What has stood against it, strace having failed: what is certain, or the rights that we lack."""
    found = certain(pid)
    if found is not None and not proc.threads_of(pid):
        return Refusal(f"process {pid} ended before it could be attached to")
    return found or _rights(pid)


def _rights(pid: int) -> Refusal | None:
    ours, status = _status("self"), _status(pid)
    if int(ours.get("CapEff", "0"), 16) >> _CAP_SYS_PTRACE & 1 or not status:
        return None
    users, groups = ({int(number) for number in status[key].split()[:3]} for key in ("Uid", "Gid"))
    if users != {os.getuid()}:
        return Refusal(f"process {pid} runs as {', '.join(map(_name, sorted(users)))}, not as you", _SUDO)
    if groups != {os.getgid()}:
        return Refusal(f"process {pid} runs in another group than you", _SUDO)
    if _owner(pid) != os.getuid():
        return Refusal(f"process {pid} may not be dumped (it asked for that, or has got rights by exec)", _SUDO)
    scope = _scope()
    if scope in _SCOPES:
        hint = "As root: sysctl kernel.yama.ptrace_scope=0, or use sudo." if scope < max(_SCOPES) else None
        return Refusal(f"kernel.yama.ptrace_scope is {scope}: {_SCOPES[scope]}", hint)
    return None


def _owner(pid: int) -> int:
    """Whose the files in /proc/PID are: root's, of a process that may not be dumped."""
    try:
        return os.stat(f"/proc/{pid}/maps").st_uid
    except OSError:
        return os.getuid()


def _status(pid: int | str) -> dict[str, str]:
    try:
        text = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return {}
    return dict(re.findall(r"(?m)^(\w+):\s*(.*)$", text))


def _scope() -> int:
    try:
        return int(_YAMA.read_text())
    except (OSError, ValueError):
        return 0


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
