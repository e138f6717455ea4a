"""Predicates on the state after an event, in a small language of their own (nothing is evaluated as code).

`parse(text)` gives a `Predicate`, which says of a `Moment` (an address space and the outcome of the
event that led there) whether it holds. The grammar is `GRAMMAR`; docs/bisect.md explains it.
"""

from vmastore.replay.predicate.language import GRAMMAR, number, parse
from vmastore.replay.predicate.moment import Moment, Predicate, Test
from vmastore.replay.predicate.reader import HINT
from vmastore.replay.predicate.values import VALUES

__all__ = ["GRAMMAR", "HINT", "VALUES", "Moment", "Predicate", "Test", "number", "parse"]
