"""Every exhibit shows its bug, and not with the fix."""

from __future__ import annotations

import pytest

from vmastore.errors import InputError
from vmastore.replay.bisect import differ
from vmastore.reports.museum import EXHIBITS, NOTES, Exhibit, exhibit


@pytest.mark.parametrize("found", EXHIBITS, ids=lambda e: e.name)
def test_bug_and_fix_part(found: Exhibit) -> None:
    """The two rule sets decide the last call differently, and every call before it alike."""
    bug, fix = found.rules()
    trace = found.trace()
    one, two = trace.world(bug), trace.world(fix)
    parted = []
    for event in trace.events:
        a, b = one.apply(event), two.apply(event)
        spaces = [w.mms.get(event.mm) for w in (one, two)]
        shown = [[(v.vm_start, v.vm_end, v.vm_flags) for v in mm.vmas()] if mm else [] for mm in spaces]
        if differ(a, b) or one.oops or shown[0] != shown[1]:
            parted.append(event.seq)
            break
    assert parted, "the bug does not show"
    assert found.name in ("map-stack", "thp-alignment") or parted[0] >= len(trace.events) - 1


def test_names_are_unique_and_notes_say_why() -> None:
    """Exhibits and notes have names of their own; a note cannot be played and says why."""
    names = [e.name for e in EXHIBITS] + [name for name, _, _ in NOTES]
    assert len(set(names)) == len(names)
    with pytest.raises(InputError, match="cannot be played"):
        exhibit("stackrot")
    with pytest.raises(InputError, match="has no"):
        exhibit("mona-lisa")
