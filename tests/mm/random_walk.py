"""Long walks of random calls: many more steps than Hypothesis takes, in few states, there and back again."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

Range = tuple[int, int]


KINDS = [*["private"] * 6, *["file"] * 3, "shared", "file-shared", "file-readonly", "droppable"]


# calls that together lead where chance seldom does, with how often each comes
THEMES: list[dict[str, int]] = [
    {"mmap": 4, "munmap": 4, "write": 4},
    {"shmat": 1, "mprotect": 12, "munmap": 1, "mremap": 2},
    {"mmap": 2, "munmap": 3, "write": 4, "mremap": 6, "fork": 1},
    {"uffd_register": 4, "uffd_unregister": 1, "mremap": 4, "mmap": 2, "uffd_close": 1},
]


class Walk:
    """Draws calls for a machine whose methods are calls and whose `agree` compares after each."""

    def __init__(self, seed: int, base: int, pages: int) -> None:
        self.random = Random(seed)
        self.base, self.pages = base, pages
        self.last: Range = (base, base + 1)
        self.plain = self.seldom(2)  # private, readable or writable memory and nothing else

    def where(self) -> Range:
        """A range; often the last one again, or one that shares an edge with it."""
        draw = self.random.random()
        if draw < 0.3:
            return self.last
        length = self.random.choice([1, 1, 1, 2, 2, 3, 5, self.pages])
        start = self.random.randrange(self.pages) + self.base
        if draw < 0.5:
            start = self.last[1] if draw < 0.4 else self.last[0] - length
        start = min(max(start, self.base), self.base + self.pages - 1)
        self.last = (start, min(start + length, self.base + self.pages))
        return self.last

    def short(self) -> Range:
        start, end = self.where()
        return start, min(end, start + 4)

    def to(self) -> int:
        """Where to move: anywhere, or right behind the last range."""
        anywhere = self.random.randrange(self.pages)
        return self.random.choice([anywhere, min(self.last[1] - self.base, self.pages - 1)])

    def which(self) -> int:
        return 1 if self.seldom(4) else 0

    def prot(self) -> int:
        return 3 if self.seldom(2) else self.random.choice([1] if self.plain else [3, 1, 1, 7, 0])

    def kind(self) -> str:
        return "private" if self.plain else self.random.choice(KINDS)

    def rarely(self, per: int) -> bool:
        return not self.plain and self.seldom(per)

    def seldom(self, per: int = 10) -> bool:
        return self.random.randrange(per) == 0

    def pick(self, *values: Any) -> Any:
        return self.random.choice(values)

    def draws(self) -> dict[str, tuple[int, Callable[[], dict[str, Any]]]]:
        """By call: how often, and with what."""
        pick, where = self.pick, self.where
        return {
            "mmap": (
                4,
                lambda: {
                    "where": self.short(),
                    "prot": pick(3, 3, self.prot()),
                    "kind": self.kind(),
                    "other": self.rarely(4),
                    "aligned": not self.seldom(),
                    "noreserve": self.rarely(20),
                    "replace": not self.seldom(3),
                    "stack": self.rarely(20),
                    "populate": pick("", "", "", "populate", "lock"),
                },
            ),
            "munmap": (1, lambda: {"where": self.short()}),
            "brk": (3, lambda: {"count": pick(0, 2, 3, 4, 9)}),
            "mprotect": (12, lambda: {"where": where(), "prot": self.prot()}),
            "madvise": (
                8,
                lambda: {"where": where(), "advice": pick(0, 1, 1, 2, 10, 11, 16, 17, 12, 13, 14, 15, 18, 19)},
            ),
            "mlock": (5, lambda: {"where": where(), "lock": pick(0, 0, 0x82000, 0x2000)}),
            "mbind": (4, lambda: {"where": where(), "mode": pick(0, 0, 2, 3)}),
            "anon_name": (4, lambda: {"where": where(), "name": pick(None, None, "a")}),
            "mseal": (1, lambda: {"where": self.short(), "really": self.seldom(30)}),
            "uffd_register": (
                3,
                lambda: {"where": self.short(), "which": self.which(), "mode": pick(1, 1, 2, 3)},
            ),
            "uffd_unregister": (4, lambda: {"where": where(), "which": self.which()}),
            "mremap": (6, lambda: {"where": self.short(), "to": self.to(), "keep": self.seldom(4)}),
            "mremap_in_place": (4, lambda: {"where": self.short(), "pages": pick(1, 2, 3, 4)}),
            "write": (8, lambda: {"where": where()}),
            "write_heap": (2, lambda: {"first": pick(0, 1, 2, 3), "count": pick(1, 3)}),
            "shmat": (3, lambda: {"where": self.short()}),
            "uffd_close": (2, lambda: {"which": pick(0, 1), "really": True}),
            "memory_merge": (3, lambda: {"on": pick(True, False)}),
            "mlockall": (2, lambda: {"flags": pick(0, 0, 0, 1, 2, 3, 4, 5, 7)}),
            "guard": (1, lambda: {"where": self.short()}),
            "fork": (1, lambda: {"really": self.seldom(6)}),
        }

    def theme(self, machine: Any) -> dict[str, int]:
        """The calls of this walk and how often each comes: few kinds, so that they undo each other."""
        if self.seldom(2):
            chosen = self.random.choice(THEMES)
        else:
            weights = {name: weight for name, (weight, _) in self.draws().items()}
            chosen = {name: weights[name] for name in self.random.sample(sorted(weights), k=4)}
            chosen |= {name: weights[name] for name in ("mmap", "mprotect", "write")}
        return {name: weight for name, weight in chosen.items() if hasattr(machine, name)}

    def run(self, machine: Any, steps: int) -> None:
        draws, weights = self.draws(), self.theme(machine)
        if "shmat" in weights:
            machine.shmat(where=(self.base, self.base + self.pages))
        else:
            machine.map(where=(self.base, self.base + self.pages), prot=3, kind="private")
        for name in self.random.choices(list(weights), list(weights.values()), k=steps):
            arguments = draws[name][1]()
            try:
                getattr(machine, name)(**arguments)
                machine.agree()
            except AssertionError as error:
                raise AssertionError(f"{name}({arguments}) on {machine.kernel}") from error
