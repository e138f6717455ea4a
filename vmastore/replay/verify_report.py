"""What a verification found: sums, and the first difference in full."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from vmastore.events import ObservedVma


@dataclass
class Mismatch:
    """The first difference: which event, what was expected and what was seen."""

    seq: int
    call: str
    args: list[Any]
    source_line: int | None
    mm: int
    certain: bool
    observed: list[ObservedVma]
    replayed: list[ObservedVma]
    decisions: list[str]


@dataclass
class Report:
    """The sums of one or several verifications; the keys of `verify --json`."""

    events: int = 0
    compared: int = 0  # observations compared
    mismatches: int = 0  # at outcomes that were certain
    mismatches_assumed: int = 0  # at outcomes that hung on something the trace does not show
    assumed: int = 0  # outcomes that did
    settled: int = 0  # unknowns that an observation settled; one that chose between states is not compared
    errno_mismatches: int = 0
    errno_mismatches_assumed: int = 0  # of calls on VMAs that hang on something the trace does not show
    first_mismatch: Mismatch | None = None
    first_errno_mismatch: str | None = None
    unmodelled: dict[str, int] = field(default_factory=dict)

    def add(self, other: Report) -> None:
        """Add another report's sums to this one."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.first_mismatch = self.first_mismatch or other.first_mismatch
        self.first_errno_mismatch = self.first_errno_mismatch or other.first_errno_mismatch
        for what, count in other.unmodelled.items():
            self.unmodelled[what] = self.unmodelled.get(what, 0) + count

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


_SUMS = (
    "events",
    "compared",
    "mismatches",
    "mismatches_assumed",
    "assumed",
    "settled",
    "errno_mismatches",
    "errno_mismatches_assumed",
)
