"""mbind, set_mempolicy_home_node. Sources: do_mbind(), mpol_new(), mbind_range()."""

from __future__ import annotations

from errno import EFAULT, EINVAL, EIO, ENOENT, EOPNOTSUPP, EPERM
from typing import Final

from vmastore.mm.flags import PAGE_SIZE, U64
from vmastore.mm.merge import Oops, vma_modify_policy
from vmastore.mm.mm import Mm
from vmastore.mm.vma import Mempolicy, Vma
from vmastore.syscalls import uapi
from vmastore.syscalls.common import covered, page_align, unseen, write_policy

_MAX_NODES: Final = 64
_MOF: Final = 1 << 3 | 1 << 4  # MPOL_F_MOF | MPOL_F_MORON


def sys_mbind(mm: Mm, start: int, length: int, mode: int, nodemask: int | None, maxnode: int, flags: int) -> int:
    """Returns 0 or -errno. nodemask: the mask's value, None for NULL."""
    mode_flags = mode & uapi.MPOL_MODE_FLAGS
    mode &= ~uapi.MPOL_MODE_FLAGS & 0xFFFFFFFF
    error = _mode_error(mm, mode, mode_flags)
    if error:
        return -error
    nodes = _get_nodes(nodemask, maxnode)
    if nodes < 0:
        return nodes
    if flags & ~(uapi.MPOL_MF_STRICT | uapi.MPOL_MF_MOVE | uapi.MPOL_MF_MOVE_ALL):
        return -EINVAL
    if flags & uapi.MPOL_MF_MOVE_ALL and mm.fails(EPERM):
        return -EPERM
    if start & (PAGE_SIZE - 1):
        return -EINVAL
    end = start + page_align(length)
    if end > U64:
        return -EINVAL
    if end == start:
        return 0
    policy = new_policy(mm, mode, mode_flags, nodes)
    if isinstance(policy, int):
        return policy
    first = mm.find_vma(start).vm_start
    if first >= end or (first > start and policy is not None):
        return -EFAULT if mm.expect_errno or not unseen(mm, start, end) else 0
    strict = mm.fails(EIO) and flags & uapi.MPOL_MF_STRICT
    if strict and not flags & (uapi.MPOL_MF_MOVE | uapi.MPOL_MF_MOVE_ALL):
        return (
            -EIO
        )  # queue_pages_range() met a misplaced page that it may not move, before any hole: nothing is bound
    if policy is not None and not covered(mm, start, end):
        return -EFAULT
    error = _bind_all(mm, start, end, policy)
    return -EIO if strict and not error else error


def _mode_error(mm: Mm, mode: int, mode_flags: int) -> int:
    """sanitize_mpol_flags()."""
    last = uapi.MPOL_WEIGHTED_INTERLEAVE if mm.rules.weighted_interleave else uapi.MPOL_PREFERRED_MANY
    if mode > last:
        return EINVAL
    if mode_flags & uapi.MPOL_F_STATIC_NODES and mode_flags & uapi.MPOL_F_RELATIVE_NODES:
        return EINVAL
    if mode_flags & uapi.MPOL_F_NUMA_BALANCING and mode not in _balancing_modes(mm):
        return EINVAL
    return 0


def _balancing_modes(mm: Mm) -> tuple[int, ...]:
    both = (uapi.MPOL_BIND, uapi.MPOL_PREFERRED_MANY)
    return both if mm.rules.weighted_interleave else (uapi.MPOL_BIND,)


def _get_nodes(nodemask: int | None, maxnode: int) -> int:
    """The nodes of a user mask of maxnode-1 bits, or -errno (get_nodes)."""
    maxnode = (maxnode - 1) & U64
    if maxnode == 0 or nodemask is None:
        return 0
    if maxnode > PAGE_SIZE * 8:
        return -EINVAL
    mask = nodemask & ((1 << maxnode) - 1)
    return -EINVAL if mask >> _MAX_NODES else mask


def new_policy(mm: Mm, mode: int, mode_flags: int, nodes: int) -> Mempolicy | int | None:
    """mpol_new() and mpol_set_nodemask(): the policy, None for MPOL_DEFAULT, or -EINVAL."""
    modal = mode_flags & (uapi.MPOL_F_STATIC_NODES | uapi.MPOL_F_RELATIVE_NODES)
    if mode == uapi.MPOL_DEFAULT:
        return -EINVAL if nodes else None
    if mode == uapi.MPOL_PREFERRED and not nodes:
        if modal:
            return -EINVAL
        mode = uapi.MPOL_LOCAL
    elif mode == uapi.MPOL_LOCAL:
        if nodes or modal:
            return -EINVAL
    elif not nodes:
        return -EINVAL
    if mode_flags & uapi.MPOL_F_NUMA_BALANCING:
        mode_flags |= _MOF
    if mode == uapi.MPOL_LOCAL:
        return Mempolicy(mode, mode_flags, 0, 0)
    allowed = mm.config.nodes
    if mode_flags & uapi.MPOL_F_RELATIVE_NODES:
        effective = _relative(nodes, allowed)
    else:
        effective = nodes & allowed
    if not effective:
        return -EINVAL
    if mode == uapi.MPOL_PREFERRED:
        effective &= -effective
    return Mempolicy(mode, mode_flags, effective, nodes if modal else allowed)


def _relative(nodes: int, allowed: int) -> int:
    """mpol_relative_nodemask(): fold onto, then scatter over, the allowed nodes."""
    numbers = [n for n in range(_MAX_NODES) if allowed >> n & 1]
    effective = 0
    for n in range(_MAX_NODES):
        if nodes >> n & 1:
            effective |= 1 << numbers[n % len(numbers)]
    return effective


def _bind_all(mm: Mm, start: int, end: int, policy: Mempolicy | None) -> int:
    vma = mm.find_vma(start)
    if not start and mm.rules.mbind_underflow:
        vma = _underflown(mm, end, policy)
    prev = vma.prev
    while vma.vm_start < end:
        bound = _bind_range(mm, prev, vma, start, end, policy)
        if isinstance(bound, int):
            return bound
        vma, prev = bound
        vma = vma.next
    return 0


def _underflown(mm: Mm, end: int, policy: Mempolicy | None) -> Vma:
    """The highest VMA, which the search from below 0 finds. Raises Oops where it is split below itself."""
    last = mm.tail.prev
    if last is mm.head or last.vm_start < end:
        return last
    if last.attrs.vm_policy == policy:
        return mm.tail
    raise Oops(f"the VMA at {last.vm_start:#x} is split at {end:#x}, and all between are lost")


def _bind_range(mm: Mm, prev: Vma, vma: Vma, start: int, end: int, policy: Mempolicy | None) -> tuple[Vma, Vma] | int:
    """mbind_range(): the VMA that now has the policy and the lower neighbour of what follows, or -errno."""
    low, high = max(start, vma.vm_start), min(end, vma.vm_end)
    if start > vma.vm_start:
        prev = vma
    if vma.attrs.vm_policy == policy:
        return vma, (prev if mm.rules.mbind_stale_prev else vma)
    changed = vma_modify_policy(mm.vmi, prev, vma, low, high, policy, range_start=start)
    if isinstance(changed, int):
        return changed
    write_policy(mm, changed, policy)
    return changed, changed


def sys_set_mempolicy_home_node(mm: Mm, start: int, length: int, home_node: int, flags: int) -> int:
    """Returns 0 or -errno; VMAs before the one that fails keep the change."""
    if start & (PAGE_SIZE - 1) or flags:
        return -EINVAL
    if home_node >= _MAX_NODES or not mm.config.nodes >> home_node & 1:
        return -EINVAL
    end = start + page_align(length)
    if end > U64:
        return -EINVAL
    if end == start:
        return 0
    error = -ENOENT
    vma = mm.find_vma(start)
    prev = vma.prev
    while vma.vm_start < end:
        old = vma.attrs.vm_policy
        if old is not None:
            if old.mode not in (uapi.MPOL_BIND, uapi.MPOL_PREFERRED_MANY):
                return -EOPNOTSUPP
            bound = _bind_range(mm, prev, vma, start, end, old._replace(home_node=home_node))
            if isinstance(bound, int):
                return bound
            error = 0
            vma, prev = bound
        else:
            prev = vma
        vma = vma.next
    return error
