"""The facts of this machine that a recording's header carries."""

from __future__ import annotations

import ctypes
import functools
import gzip
import mmap
import os
import re
import resource
from pathlib import Path
from typing import Any

_SYSCTLS = {
    "max_map_count": "vm/max_map_count",
    "overcommit_memory": "vm/overcommit_memory",
    "mmap_min_addr": "vm/mmap_min_addr",
}
_KERNEL_CONFIG = {
    "anon_name": "ANON_VMA_NAME",
    "userfaultfd": "USERFAULTFD",
    "ksm": "KSM",
    "numa": "NUMA",
    "soft_dirty": "MEM_SOFT_DIRTY",
    "hugepage": "TRANSPARENT_HUGEPAGE",
}
_RLIMITS = ("AS", "DATA", "STACK", "MEMLOCK")
_PR_SET_VMA, _PR_SET_VMA_ANON_NAME = 0x53564D41, 0
_STACK_GUARD_GAP = 256  # pages, unless the kernel's command line says otherwise
_CAP_SYS_ADMIN, _CAP_IPC_LOCK, _CAP_SYS_NICE = 21, 14, 23


def system_config(pid: int | None = None) -> dict[str, Any]:
    """What decides outcomes besides the kernel's version; a fact that cannot be read is left out.

    pid: the process whose limits count, default: this one, which hands them down to what it starts.
    """
    config: dict[str, Any] = {}
    for key, name in _SYSCTLS.items():
        value = _number(Path("/proc/sys") / name)
        if value is not None:
            config[key] = value
    config |= kernel_config()
    config.setdefault("anon_name", _has_anon_name())
    for key, name in (("thp", "enabled"), ("shmem_thp", "shmem_enabled")):
        chosen = _chosen(Path("/sys/kernel/mm/transparent_hugepage") / name)
        if chosen:
            config[key] = chosen
    config["rlimits"] = _rlimits(pid)
    config["stack_guard_gap"] = _guard_gap()
    config["nodes"] = _nodes()
    cpus = _possible_cpus()
    if cpus is not None:
        config["cpus"] = cpus
    privileged = _privileged(pid)
    if privileged is not None:
        config["privileged"] = privileged
    return config


@functools.cache
def kernel_config() -> dict[str, bool]:
    """Options of the running kernel, by the header's names; empty where its configuration is not shown."""
    for path in (Path("/proc/config.gz"), Path(f"/boot/config-{os.uname().release}")):
        try:
            raw = path.read_bytes()
        except OSError:
            continue
        text = (gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw).decode("utf-8", "replace")
        on = set(re.findall(r"(?m)^CONFIG_(\w+)=[ym]$", text))
        return {key: name in on for key, name in _KERNEL_CONFIG.items()}
    return {}


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _chosen(path: Path) -> str | None:
    """The bracketed word of `always [madvise] never`."""
    try:
        found = re.search(r"\[(\w+)\]", path.read_text())
    except OSError:
        return None
    return found[1] if found else None


def _rlimits(pid: int | None) -> dict[str, int]:
    """Soft limits in bytes; -1: none."""
    limits = {}
    for name in _RLIMITS:
        which = getattr(resource, f"RLIMIT_{name}")
        try:
            soft, _ = resource.getrlimit(which) if pid is None else resource.prlimit(pid, which)
        except OSError:
            continue
        limits[name] = -1 if soft == resource.RLIM_INFINITY else soft
    return limits


def _guard_gap() -> int:
    try:
        found = re.search(r"\bstack_guard_gap=(\d+)", Path("/proc/cmdline").read_text())
    except OSError:
        found = None
    return int(found[1]) if found else _STACK_GUARD_GAP


def _nodes() -> int:
    """Mask of the NUMA nodes that have memory."""
    try:
        text = Path("/sys/devices/system/node/has_memory").read_text().strip()
    except OSError:
        return 1
    mask = 0
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        for node in range(int(first), int(last or first) + 1):
            mask |= 1 << node
    return mask or 1


def _possible_cpus() -> int | None:
    """num_possible_cpus(), which the ring of an asynchronous I/O context is made for."""
    try:
        parts = Path("/sys/devices/system/cpu/possible").read_text().strip().split(",")
        return sum(int(last or first) + 1 - int(first) for first, _, last in (part.partition("-") for part in parts))
    except (OSError, ValueError):
        return None


def _privileged(pid: int | None) -> bool | None:
    """Whether the process may lock memory and move pages without limits."""
    try:
        text = Path(f"/proc/{pid or 'self'}/status").read_text()
    except OSError:
        return None
    found = re.search(r"(?m)^CapEff:\s*([0-9a-f]+)", text)
    needed = 1 << _CAP_SYS_ADMIN | 1 << _CAP_IPC_LOCK | 1 << _CAP_SYS_NICE
    return int(found[1], 16) & needed == needed if found else None


def _has_anon_name() -> bool:
    """Whether the kernel lets anonymous memory be named: tried on a page of our own."""
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    holder = ctypes.c_char.from_buffer(page)
    libc = ctypes.CDLL(None, use_errno=True)
    size = ctypes.c_ulong(mmap.PAGESIZE)
    where = ctypes.c_void_p(ctypes.addressof(holder))
    done: int = libc.prctl(_PR_SET_VMA, ctypes.c_ulong(_PR_SET_VMA_ANON_NAME), where, size, b"vmastore")
    del holder
    page.close()
    return done == 0
