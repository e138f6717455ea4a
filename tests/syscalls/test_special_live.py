"""madvise of [vdso] and its neighbours, each advice in a child of its own: the running kernel's answers."""

from __future__ import annotations

import ctypes
import os
from functools import cache

import pytest

from vmastore.importers.maps_file import MapsReader
from vmastore.mm.rules import resolve
from vmastore.recorder.system import system_config
from vmastore.replay.world import World
from vmastore.syscalls import uapi
from vmastore.syscalls.madvise import sys_madvise

ADVICE = {
    name: value
    for name, value in vars(uapi).items()
    if name.startswith("MADV_") and name not in ("MADV_HWPOISON", "MADV_SOFT_OFFLINE")
}


@cache
def special() -> dict[str, tuple[int, int]]:
    """Start and length of this process's special mappings."""
    found = {}
    with open("/proc/self/maps") as lines:
        for line in lines:
            bounds, *_, name = line.split()
            if name in ("[vdso]", "[vvar]", "[vvar_vclock]"):
                start, end = (int(bound, 16) for bound in bounds.split("-"))
                found[name] = start, end - start
    return found


def kernel(start: int, length: int, advice: int) -> int:
    """0 or the errno of madvise in a child."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    child = os.fork()
    if not child:
        os._exit(ctypes.get_errno() if libc.madvise(start, length, advice) else 0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("name", special() or ["none here"])
def test_advice_on_special_mappings(name: str) -> None:
    """No file is mapped there, though a special mapping is told from all others by one."""
    if name not in special():
        pytest.skip("no special mappings in this process")
    start, length = special()[name]
    reader = MapsReader(f"pid:{os.getpid()}", None)
    header = reader.header._replace(config=system_config())
    uname = os.uname()
    wrong = {}
    for advice, value in ADVICE.items():
        world = World(header, lambda: reader.files, resolve(uname.release, uname.version))
        for event in reader.events():
            world.apply(event)
        mm = world.mm(1)
        mm.observed = False
        ours, theirs = -sys_madvise(mm, start, length, value), kernel(start, length, value)
        if ours != theirs:
            wrong[advice] = ours, theirs
    assert not wrong
