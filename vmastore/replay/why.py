"""Why two VMAs that meet are not one."""

from __future__ import annotations

from vmastore.mm.merge import why_not_one
from vmastore.mm.mm import Mm
from vmastore.mm.outcome import Reason
from vmastore.mm.vma import Vma

NOT_TRIED = Reason("not_tried")


def why_apart(mm: Mm, left: Vma, right: Vma) -> Reason:
    """The first reason why `left` and `right`, which touch, are not one VMA.

    Two that could merge but were never asked to (no call has touched them since they became alike)
    get `not_tried`.
    """
    return why_not_one(mm, left, right) or NOT_TRIED
