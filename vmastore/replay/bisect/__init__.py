"""Bisection: the event at which a property begins to hold, two rule sets part, or two runs part."""

from vmastore.replay.bisect.find import Flip, flips
from vmastore.replay.bisect.first import Held, Parted, first_decided, first_held
from vmastore.replay.bisect.judge import Judge, PredicateJudge, SqlJudge
from vmastore.replay.bisect.part import Difference, differ, differences
from vmastore.replay.bisect.runs import Comparison, Parting, Run, compare
from vmastore.replay.bisect.stored import Searched, Side, first_parted, search
from vmastore.replay.bisect.tracker import Found, Tracker, look

__all__ = [
    "Comparison",
    "Difference",
    "Flip",
    "Found",
    "Held",
    "Judge",
    "Parted",
    "Parting",
    "PredicateJudge",
    "Run",
    "Searched",
    "Side",
    "SqlJudge",
    "Tracker",
    "compare",
    "differ",
    "differences",
    "first_decided",
    "first_held",
    "first_parted",
    "flips",
    "look",
    "search",
]
