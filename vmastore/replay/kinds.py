"""What outcomes and decisions have in common, told once: a stored row names its kind by number."""

from __future__ import annotations

from typing import Any, Final

from vmastore.mm.outcome import Decision

_KEPT: Final = 4096  # kinds that are remembered: reasons are few, but every divergence may name addresses of its own
_Key = tuple[Any, ...]  # api, action, case, reason_prev, reason_next, certain


class Told:
    """What all outcomes of the same decisions are."""

    __slots__ = ("cases", "certain", "kind", "merges", "seen", "splits")

    def __init__(self) -> None:
        self.cases = ""  # as `Outcome.cases`
        self.certain = True
        self.merges: list[str] = []  # their cases
        self.splits = 0
        self.seen = 0  # outcomes that were so
        self.kind: Any = 0  # the number of such an outcome that was answered as the kernel did


class Kinds:
    """Numbers the kinds of one replay in the order in which they are met, from 1 on, and makes their rows.

    Numbers are Any: compiled, they only go from tables into rows, and are not unboxed on the way.
    Forgets all it knows where that is too much: a kind may then come to have two numbers.
    What merged and split in all of them is in `merges` (by case), `splits` and `assumed`, up to the last `forget`.
    outcomes, decisions: get the values of the rows, as `ReplayWriter.outcome_kinds` and `decision_kinds` want them.
    """

    def __init__(self, outcomes: list[Any], decisions: list[Any]) -> None:
        self._rows = outcomes
        self._decision_rows = decisions
        self._outcomes = 0  # kinds so far
        self._decisions = 0
        self._numbers: dict[tuple[Any, ...], Any] = {}
        self.told: dict[tuple[Any, ...], Told] = {}  # by the kinds of its decisions
        self.of: dict[_Key, Any] = {}  # the kind of a decision
        self.merges: dict[str, int] = {}
        self.splits = 0
        self.assumed = 0

    def forget(self) -> None:
        """Forget what is told of outcomes, and how many were so: that goes into the sums."""
        for told in self.told.values():
            self.splits += told.seen * told.splits
            self.assumed += told.seen * (not told.certain)
            for case in told.merges:
                self.merges[case] = self.merges.get(case, 0) + told.seen
        self.told.clear()

    def decision(self, decision: Decision) -> Any:
        """The kind of a decision that `of` does not know."""
        if len(self.of) >= _KEPT:
            self.of.clear()
            self.forget()
        api, action, _, _, case, prev, nxt, _, _, _, sure = decision
        self._decisions = number = self._decisions + 1
        self.of[api, action, case, prev, nxt, sure] = number
        why_prev = None if prev is None else prev.text
        why_next = None if nxt is None else nxt.text
        self._decision_rows += (number, api, action, case, why_prev, why_next, 1 if sure else 0)
        return number

    def outcome(self, decided: tuple[Any, ...], decisions: list[Decision]) -> Told:
        """What an outcome of decisions of these kinds is, where `told` does not know."""
        if len(self.told) >= _KEPT:
            self.forget()
        told = Told()
        cases = []
        for decision in decisions:
            if decision.action == "merge":
                told.merges.append(decision.case)
                cases.append(decision.case)
            elif decision.action == "split":
                told.splits += 1
                cases.append("split")
            if not decision.certain:
                told.certain = False
        told.cases = "+".join(cases)
        told.kind = self.number(told, None)
        self.told[decided] = told
        return told

    def number(self, told: Told, divergence: str | None) -> Any:
        """The kind of an outcome of which that is told, and whether the kernel answered otherwise."""
        key = (len(told.merges), told.splits, told.cases, told.certain, divergence)
        found = self._numbers.get(key)
        if found is None:
            if len(self._numbers) >= _KEPT:
                self._numbers.clear()
                self.forget()
            self._outcomes = found = self._outcomes + 1
            self._numbers[key] = found
            self._rows += (found, key[0], key[1], key[2], 1 if told.certain else 0, divergence)
        return found
