"""What a measurement comes to: rows with their goals, as JSON and back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Goal:
    """A limit that one figure of a row must keep: `least` or `most`."""

    figure: str  # ours, ratio, or one of `more`
    least: float | None = None
    most: float | None = None

    def met(self, value: float) -> bool:
        """Whether a value keeps it."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


@dataclass(frozen=True)
class Row:
    """One job: our figure, the baseline's in the same run, and their ratio.

    key: stable name. unit: of ours and of baseline. against: what the baseline is. build: pure or compiled.
    skipped: why it was not measured (then there is no figure).
    """

    key: str
    job: str
    unit: str
    ours: float | None = None
    baseline: float | None = None
    against: str = ""
    ratio: float | None = None
    goals: list[Goal] = field(default_factory=list)
    build: str = "pure"
    more: dict[str, Any] = field(default_factory=dict)
    skipped: str = ""

    def value(self, figure: str) -> float | None:
        """A figure by name."""
        found = {"ours": self.ours, "ratio": self.ratio}.get(figure, self.more.get(figure))
        return None if found is None else float(found)

    @property
    def met(self) -> bool | None:
        """Whether all goals are kept; None where there is none, or no figure for one."""
        values = [(goal, self.value(goal.figure)) for goal in self.goals]
        if self.skipped or not values or any(value is None for _, value in values):
            return None
        return all(goal.met(value) for goal, value in values if value is not None)


def to_json(row: Row) -> dict[str, Any]:
    """A row as JSON shows it, `met` included."""
    return asdict(row) | {"met": row.met}


def from_json(shown: dict[str, Any]) -> Row:
    """The row that `to_json` showed."""
    given = {key: value for key, value in shown.items() if key != "met"}
    return Row(**given | {"goals": [Goal(**goal) for goal in shown["goals"]]})
