"""Reduction: the smallest sequence of operations that still shows an outcome or a predicate.

The generic part, removing chunks until no single one can go, is a page of code here: of the libraries,
picire's last release is of 2021 and shrinkray runs scripts on files, while the oracle here is a replay
in memory that stops at the outcome and says where, so that the tail goes at once.
"""

from vmastore.replay.reduce.engine import Reduced, reduce_trace
from vmastore.replay.reduce.goals import AtGoal, Goal, KernelGoal, PredicateGoal

__all__ = ["AtGoal", "Goal", "KernelGoal", "PredicateGoal", "Reduced", "reduce_trace"]
