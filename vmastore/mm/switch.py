"""What a rule switch is: a statement about VMAs that some releases make and others do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Release = tuple[int, int, int]
ALWAYS: Final[Release] = (0, 0, 0)
NEVER: Final[Release] = (999, 0, 0)


@dataclass(frozen=True)
class Switch:
    """One version-dependent statement: what it says, where it came in, how it shows."""

    name: str  # with dashes, as on the command line
    doc: str
    since: Release
    until: Release | None  # first release without it, None: still there
    backports: Mapping[tuple[int, int], int]  # stable branch -> first patch level known to have it
    ended: Mapping[tuple[int, int], int]  # stable branch -> first patch level known to be without it again
    change: str  # the change that brought it, of a bug the one that mended it

    def holds_in(self, release: Release) -> bool:
        branch, level = release[:2], release[2]
        if branch in self.ended and level >= self.ended[branch]:
            return False
        if branch in self.backports and level >= self.backports[branch]:
            return True
        return self.since <= release and (self.until is None or release < self.until)


def switch(
    since: Release,
    change: str,
    doc: str,
    *,
    until: Release | None = None,
    backports: Mapping[tuple[int, int], int] | None = None,
    ended: Mapping[tuple[int, int], int] | None = None,
) -> Any:
    """A field of a rule set; off unless a release is known to have it."""
    meta = {"since": since, "until": until, "backports": backports or {}, "ended": ended or {}}
    return field(default=False, metadata={**meta, "change": change, "doc": doc})
