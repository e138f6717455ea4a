"""Flags that a comparison ignores: who has them after a merge, for every mixture of who had them before."""

from __future__ import annotations

from itertools import product

import pytest
from layout import layout
from operations import Op, modify, new

from vmastore.mm.flags import VM_MAYBE_GUARD, VM_SOFTDIRTY
from vmastore.mm.mm import Mm

# geometry -> (drawing, shades, operation, letters that become one, the letter that survives)
MERGES: dict[str, tuple[str, str, Op, str, str]] = {
    "1": ("PPP   NNN", "www   www", new(3, 6), "PN", "P"),
    "2": ("PPP   NNN", "www   rrr", new(3, 6), "P", "P"),
    "3": ("PPP   NNN", "rrr   www", new(3, 6), "N", "N"),
    "4": ("CCCCCCNNN", "rrrrrrwww", modify(3, 6, "w"), "CN", "N"),
    "5": ("PPPCCCCCC", "wwwrrrrrr", modify(3, 6, "w"), "PC", "P"),
    "6": ("PPPCCCNNN", "wwwrrrwww", modify(3, 6, "w"), "PCN", "P"),
    "7": ("PPPCCCNNN", "wwwrrrnnn", modify(3, 6, "w"), "PC", "P"),
    "8": ("PPPCCCNNN", "nnnrrrwww", modify(3, 6, "w"), "CN", "N"),
}
MIXTURES = [
    "".join(letter for letter, has in zip("PCN", bits, strict=True) if has) for bits in product((0, 1), repeat=3)
]


def _merged(case: str, having: str, bit: int, kernel: str) -> tuple[Mm, int]:
    """The address space after the merge, and the survivor's flags."""
    drawing, shading, op, _, survivor = MERGES[case]
    mm = layout(drawing, shading, rules=kernel, flags=dict.fromkeys(having, bit))
    op(mm)
    assert [d.case for d in mm.decisions if d.action == "merge"] == [case]
    return mm, next(v for v in mm.vmas() if v.label == survivor).vm_flags


@pytest.mark.parametrize("having", MIXTURES, ids=lambda letters: letters or "nobody")
@pytest.mark.parametrize("case", MERGES)
def test_sticky_flags_survive(case: str, having: str) -> None:
    """Since 7.0 the survivor has VM_SOFTDIRTY and VM_MAYBE_GUARD if any part of it had."""
    for bit in (VM_SOFTDIRTY, VM_MAYBE_GUARD):
        _, flags = _merged(case, having, bit, "7.3")
        assert bool(flags & bit) == any(letter in having for letter in MERGES[case][3])


@pytest.mark.parametrize("having", MIXTURES, ids=lambda letters: letters or "nobody")
@pytest.mark.parametrize("case", MERGES)
def test_before_the_caller_decides(case: str, having: str) -> None:
    """Before 7.0 soft-dirty blocks no merge either, and the survivor has what the caller writes to it."""
    _, flags = _merged(case, having, VM_SOFTDIRTY, "6.12")
    decides = "C" if "C" in MERGES[case][3] else MERGES[case][4]
    assert bool(flags & VM_SOFTDIRTY) == (decides in having)


@pytest.mark.parametrize("case", ["4", "5"])
def test_what_shrinks_keeps_its_own(case: str) -> None:
    """The part that a merge leaves behind keeps its flags."""
    for having in ("C", "PN"):
        mm, _ = _merged(case, having, VM_SOFTDIRTY, "7.3")
        left = next(v for v in mm.vmas() if v.label == "C")
        assert bool(left.vm_flags & VM_SOFTDIRTY) == (having == "C")
