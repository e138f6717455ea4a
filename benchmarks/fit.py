"""A power law through points: seconds = c * size ** exponent, by least squares in log-log."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import linear_regression
from typing import Any


def power_law(points: list[tuple[float, float]]) -> tuple[float, float, float]:
    """(exponent, its standard error, factor) of at least three points of positive numbers."""
    xs, ys = ([math.log(point[n]) for point in points] for n in (0, 1))
    slope, level = linear_regression(xs, ys)
    left = sum((y - level - slope * x) ** 2 for x, y in zip(xs, ys, strict=True))
    middle = sum(xs) / len(xs)
    spread = sum((x - middle) ** 2 for x in xs)
    return slope, math.sqrt(left / (len(xs) - 2) / spread), math.exp(level)


@dataclass
class Series:
    """One job against the size of one thing. claim: the least (None: any) and the most that the exponent may be."""

    job: str
    axis: str
    claim: tuple[float | None, float]
    points: list[tuple[float, float]] = field(default_factory=list)

    def add(self, size: float, seconds: float) -> None:
        """One more point."""
        self.points.append((size, seconds))

    @property
    def exponent(self) -> float:
        return power_law(self.points)[0]

    @property
    def error(self) -> float:
        """The exponent's standard error."""
        return power_law(self.points)[1]

    @property
    def steepest(self) -> float:
        """The exponent between two neighbouring points where it is greatest: a curve that bends shows there."""
        pairs = pairwise(self.points)
        return max(math.log(b[1] / a[1]) / math.log(b[0] / a[0]) for a, b in pairs)

    @property
    def holds(self) -> bool:
        """Whether the exponent is what is claimed."""
        return (self.claim[0] is None or self.exponent >= self.claim[0]) and self.exponent <= self.claim[1]

    @property
    def claimed(self) -> str:
        """The claim in words."""
        low, high = self.claim
        return f"at most {high:g}" if low is None else f"{low:g} to {high:g}"

    def line(self) -> str:
        """For a terminal."""
        verdict = "" if self.holds else "  NOT as claimed"
        shown = "  ".join(f"{size:,.0f}: {seconds * 1000:,.3g} ms" for size, seconds in self.points)
        return (
            f"{self.job} in {self.axis}: exponent {self.exponent:.3f} ± {self.error:.3f}"
            f" (claimed: {self.claimed}){verdict}\n    {shown}"
        )

    def to_json(self) -> dict[str, Any]:
        """With the fit."""
        return {
            "job": self.job, "axis": self.axis, "claim": list(self.claim), "points": [list(p) for p in self.points],
            "exponent": round(self.exponent, 4), "error": round(self.error, 4), "steepest": round(self.steepest, 3),
            "holds": self.holds,
        }  # fmt: skip

    @staticmethod
    def from_json(shown: dict[str, Any]) -> Series:
        """The series that `to_json` showed."""
        low, high = shown["claim"]
        return Series(shown["job"], shown["axis"], (low, high), [(x, y) for x, y in shown["points"]])
