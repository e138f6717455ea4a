"""The arguments of each call, from text to the values of `vmastore.events.CALLS`.

A call of the table that does not parse raises Unparsed; any other call gives its arguments as they
can be had: ints, strings, else the text.
"""

from __future__ import annotations

import re
from operator import getitem

from vmastore.importers.strace import constants, values
from vmastore.importers.strace.scan import Unparsed
from vmastore.importers.strace.special import SPECIAL, Args, Tokens
from vmastore.importers.strace.tokens import ANY, any_value
from vmastore.importers.strace.values import FD, INT, SIGNED, Memo

# Calls whose arguments are numbers and nothing else, in the order of CALLS.
SIMPLE: dict[str, tuple[Memo, ...]] = {
    "mmap": (INT, INT, values.PROT, values.MAP, FD, INT),
    "mmap2": (INT, INT, values.PROT, values.MAP, FD, INT),
    "munmap": (INT, INT),
    "mprotect": (INT, INT, values.PROT),
    "pkey_mprotect": (INT, INT, values.PROT, SIGNED),
    "mremap": (INT, INT, INT, values.MREMAP, INT),
    "brk": (INT,),
    "madvise": (INT, INT, values.MADV),
    "mlock": (INT, INT),
    "mlock2": (INT, INT, values.MLOCK),
    "munlock": (INT, INT),
    "mlockall": (values.MCL,),
    "munlockall": (),
    "set_mempolicy_home_node": (INT, INT, INT, INT),
    "userfaultfd": (values.OPEN,),
    "remap_file_pages": (INT, INT, values.PROT, INT, values.MAP),
    "shmget": (values.SHMGET, INT, values.SHMGET),
    "shmdt": (INT,),
    "mseal": (INT, INT, INT),
    "msync": (INT, INT, values.MS),
    "map_shadow_stack": (INT, INT, values.SHADOW_STACK),
    "io_destroy": (INT,),
    "personality": (values.PERSONALITY,),
    "pkey_alloc": (INT, values.PKEY),
    "pkey_free": (SIGNED,),
    "dup": (FD,),
    "close": (FD,),
    "close_range": (INT, INT, values.CLOSE_RANGE),
}


_MREMAP_DONTUNMAP = 4


def parse(name: str, tokens: Tokens) -> Args:
    """The typed arguments of call `name`; raises Unparsed."""
    simple = SIMPLE.get(name)
    if simple is not None:
        return _simple(name, simple, tokens)
    special = SPECIAL.get(name)
    if special is None:
        return tuple([ANY[token] if len(token) < 100 else any_value(token) for token in tokens])
    try:
        return special(tokens)
    except (IndexError, ValueError) as error:
        raise Unparsed(f"{name}: {error}") from None


def _simple(name: str, memos: tuple[Memo, ...], tokens: Tokens) -> Args:
    if len(tokens) == 4 and name == "mremap":
        shown = tuple(map(getitem, memos, tokens))  # new_addr only with MREMAP_FIXED, but both look at it
        return (*shown, None if shown[3] & _MREMAP_DONTUNMAP else 0)
    # a call printed by number shows six arguments, used or not
    if len(tokens) != len(memos) and not (len(tokens) == 6 > len(memos)):
        raise Unparsed(f"{name} with {len(tokens)} arguments")
    return tuple(map(getitem, memos, tokens))


_CLONE_FLAGS = re.compile(rb"\bflags=([^,}]+)")
_EXIT_SIGNAL = re.compile(rb"\bexit_signal=([^,}]+)")


def clone_flags(name: str, tokens: Tokens) -> int | None:
    """The flags of fork, vfork, clone and clone3; None where the log does not show them."""
    if name == "fork":
        return constants.SIGNALS["SIGCHLD"]
    if name == "vfork":
        return constants.CLONE_VM | constants.CLONE_VFORK | constants.SIGNALS["SIGCHLD"]
    try:
        return _shown_flags(name, tokens)
    except Unparsed:  # a flag that is newer than our table
        return None


def _shown_flags(name: str, tokens: Tokens) -> int | None:
    shown = _CLONE_FLAGS.search(b", ".join(tokens))
    if shown:
        signal = _EXIT_SIGNAL.search(tokens[0]) if name == "clone3" else None
        return values.CLONE[shown[1]] | (values.CLONE[signal[1]] if signal else 0)
    if name == "clone" and tokens:  # -e raw=all
        return INT[tokens[0]]
    return None
