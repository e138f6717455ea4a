"""Which calls strace is asked to trace."""

from __future__ import annotations

import platform

import pytest

from vmastore.importers.strace.numbers import NAMES
from vmastore.recorder.copies import COPYING
from vmastore.recorder.traced import traced


@pytest.mark.parametrize("copies", [False, True], ids=["plain", "copies"])
def test_a_strace_that_knows_all_is_told_their_names(copies: bool) -> None:
    """One that does not mind a question mark before a name takes what is not on every machine."""
    names = traced(copies=copies, by_name=True).split(",")
    assert {"memory", "process", "?mseal", "ioctl"} <= set(names)
    assert set(COPYING.split(",")) <= set(names) if copies else "read" not in names


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of calls are those of x86-64")
@pytest.mark.parametrize("copies", [False, True], ids=["plain", "copies"])
def test_an_older_one_is_told_what_not_to_trace(copies: bool) -> None:
    """Those are all calls but what is traced by name, so that the calls without a name are traced with them."""
    others = traced(copies=copies, by_name=False)
    assert others.startswith("!?")
    left_out = {name.lstrip("?").partition("@")[0] for name in others[1:].split(",")}
    assert not left_out & set(traced(copies=copies, by_name=True).replace("?", "").split(","))
    assert {"write", "futex", "stat64"} <= left_out and ("read" in left_out) != copies
    classes = {"file", "process", "network", "signal", "ipc", "desc", "memory"}
    assert not left_out & classes  # what is written like a call is one to strace
    kept = set(NAMES.values()) - left_out
    assert {"mmap", "mseal", "map_shadow_stack", "execve", "exit_group", "wait4", "kill", "close", "shmat"} <= kept
    assert len(kept) < 80
