"""Random programs with one planted difference, and the check that bisection names it.

`python tests/replay/planting.py --count 500` runs them in their full sizes (`make nightly`).
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from vmastore.events import Event, FileInfo, TraceHeader
from vmastore.mm.mm import Mm
from vmastore.mm.rules import RuleSet, preset
from vmastore.replay.bisect import Run, compare, differences
from vmastore.replay.world import World

PAGE = 4096
KINDS = ("flag", "length", "order", "rule")
ARENAS = (0x7F5500000000, 0x7E1200000000, 0x555500000000)
SWITCHES = (
    "anon-merge-source-chain",
    "mmap-merge-new-range",
    "map-stack-nohugepage",
    "mprotect-drops-account",
    "guard-install",
    "maybe-guard-flag",
    "mremap-copy-anon-vma",
)
HEADER = TraceHeader("planted", "planted", "jsonl", "6.18.44", None, {"max_map_count": 65530}, "recorded")


class Op(NamedTuple):
    """A call without addresses: it works on [page, page + pages) of a slot."""

    name: str
    slot: int
    page: int
    pages: int
    value: int = 0  # prot, advice, mode …
    flags: int = 0
    arena: int = 0


class Memory:
    """A trace that is kept in memory, with what bisection asks of a stored one."""

    def __init__(self, name: str, events: list[Event]) -> None:
        self.header = HEADER._replace(name=name)
        self.files: dict[int, FileInfo] = {}
        self._events = events

    def events(self, start: int = 1, stop: int | None = None) -> Iterator[Event]:
        return iter(self._events[start - 1 : stop])

    def world(self, rules: RuleSet, **options: Any) -> World:
        return World(self.header, self.files, rules, **options)


def program(rng: random.Random, count: int) -> list[Op]:
    """A program of `count` calls on a few dozen mappings, as allocators make them."""
    ops: list[Op] = []
    live: list[tuple[int, int]] = []  # slot, pages
    wanted = rng.choice((4, 12, 40))
    while len(ops) < count:
        slot = len(ops)
        if len(live) < wanted:
            pages = rng.choice((4, 8, 16, 32))
            stack = 0x20000 if rng.random() < 0.1 else 0
            ops.append(Op("mmap", slot, 0, pages, rng.choice((3, 3, 3, 1, 0)), 0x22 | stack, rng.randrange(3)))
            live.append((slot, pages))
            continue
        index = rng.randrange(len(live))
        slot, whole = live[index]
        page = rng.randrange(whole)
        pages = rng.randrange(1, whole - page + 1)
        draw = rng.random()
        if draw < 0.28:
            ops.append(Op("mprotect", slot, page, pages, rng.choice((0, 1, 3, 3))))
        elif draw < 0.42:
            ops.append(Op("madvise", slot, page, pages, rng.choice((10, 11, 14, 15, 16, 17, 102, 103, 4))))
        elif draw < 0.62:
            ops.append(Op("fault", slot, page, 1))
        elif draw < 0.72:
            ops.append(Op("fixed", slot, page, pages, rng.choice((3, 3, 1)), 0x32))
        elif draw < 0.80:
            ops.append(Op("munmap", slot, page, pages))
        elif draw < 0.86:
            ops.append(Op(rng.choice(("mlock", "munlock", "munlock")), slot, page, pages))
        elif draw < 0.90:
            ops.append(Op("mbind", slot, page, pages, rng.choice((0, 0, 2))))
        elif draw < 0.94:
            ops.append(Op("mremap", slot, page, pages, len(ops), 0, rng.randrange(3)))
        else:
            ops.append(Op("munmap", slot, 0, whole))
            del live[index]
    return ops


def run(ops: list[Op], seed: int, rules: RuleSet) -> list[Event]:
    """The program's events at addresses of the seed's own, with the answers that the rules give."""
    rng = random.Random(seed)
    top = [base - (rng.randrange(1 << 20) << 12) for base in ARENAS]
    bases: dict[int, int] = {}
    world = World(HEADER, {}, rules)
    events = []
    for seq, op in enumerate(ops, 1):
        if op.name == "mmap":
            top[op.arena] -= op.pages * PAGE
            bases[op.slot] = top[op.arena]
        call, args, result = _call(op, bases, top)
        event = Event(seq, 1, 1, 1, None, call, args, result, 0)
        outcome = world.apply(event)
        if call != "fault" and result is None:
            event = event._replace(result=outcome.result, errno=outcome.errno)
        events.append(event)
    return events


def _call(op: Op, bases: dict[int, int], top: list[int]) -> tuple[str, tuple[Any, ...], int | None]:
    addr, length = bases.get(op.slot, 0x1000) + op.page * PAGE, op.pages * PAGE
    if op.name == "mmap":
        return "mmap", (0, length, op.value, op.flags, -1, 0), addr
    if op.name == "fixed":
        return "mmap", (addr, length, op.value, op.flags, -1, 0), None
    if op.name == "fault":
        return "fault", (addr, length, "w", None, "user"), None
    if op.name == "mbind":
        return "mbind", (addr, length, op.value, 1 if op.value else None, 64, 0), None
    if op.name == "mremap":
        top[op.arena] -= (op.pages + 1) * PAGE
        return "mremap", (addr, length, length, 3, top[op.arena]), None
    return op.name, (addr, length, op.value) if op.name in ("mprotect", "madvise") else (addr, length), None


def plant(rng: random.Random, ops: list[Op], kind: str) -> tuple[int, list[Op]]:
    """The place (from 0) and the program with one operation altered there."""
    while True:
        at = rng.randrange(len(ops) - 1)
        op, altered = ops[at], list(ops)
        if kind == "order":
            if op == ops[at + 1] or "mmap" in (op.name, ops[at + 1].name):
                continue
            altered[at : at + 2] = ops[at + 1], op
        elif kind == "length":
            if op.name == "fault":
                continue
            altered[at] = op._replace(pages=op.pages + 1)
        else:
            values = {"mprotect": (0, 1, 3, 5), "madvise": (10, 14, 15, 16), "mmap": (0, 1, 3), "fixed": (0, 1, 3)}
            if op.name not in values:
                continue
            altered[at] = op._replace(value=rng.choice([v for v in values[op.name] if v != op.value]))
        return at, altered


@dataclass
class Result:
    """What one planted difference came to."""

    seed: int
    kind: str
    events: int
    planted: int  # event number, 0: a rule
    found: int
    note: str = ""
    wrong: list[str] = field(default_factory=list)


def check(seed: int, low: int, high: int) -> Result:
    """Plant one difference and bisect it. `wrong` says what is not as it should be."""
    rng = random.Random(seed)
    kind = KINDS[seed % len(KINDS)]
    count = int(low * (high / low) ** rng.random())
    ops = program(rng, count)
    if kind == "rule":
        ops = _late(ops, rng.randrange(count * 3 // 4))
    events = run(ops, seed * 2 + 1, preset("6.18"))
    if kind == "rule":
        return _check_rule(rng, Result(seed, kind, count, 0, 0), events)
    at, altered = plant(rng, ops, kind)
    result = Result(seed, kind, count, at + 1, 0)
    other = run(altered, seed * 2 + 2, preset("6.18"))
    runs = [Run(Memory(name, e), 1, preset("6.18"), count) for name, e in (("a", events), ("b", other))]
    found = compare(runs[0], runs[1])
    first = found.first()
    if first is None:
        result.wrong.append("no difference was found")
        return result
    result.found, result.note = min((*first.a, *first.b)), first.kind
    if not (result.found == at + 1 and first.a[:1] in ((), (at + 1,)) and first.b[:1] in ((), (at + 1,))):
        result.wrong.append(f"found {first}")
    if found.before != at:
        result.wrong.append(f"{found.before} calls are said to be alike before it")
    return result


def _late(ops: list[Op], first: int) -> list[Op]:
    """The program without what the commonest switches turn on, up to `first`: a difference comes late."""
    early = []
    for op in ops[:first]:
        if op.name in ("mmap", "fixed", "mprotect"):
            op = op._replace(value=3, flags=op.flags & ~0x20000)
        elif op.name == "madvise" and op.value in (102, 103):
            op = op._replace(value=16)
        early.append(op)
    return early + ops[first:]


def _check_rule(rng: random.Random, result: Result, events: list[Event]) -> Result:
    switches = list(SWITCHES)
    rng.shuffle(switches)
    memory, base = Memory("a", events), preset("6.18")
    for switch in switches:
        other = base.with_rule(switch, not getattr(base, switch.replace("-", "_")))
        worlds = memory.world(base), memory.world(other)
        first = next(differences(worlds[0], worlds[1], memory.events()), None)
        result.note = switch
        result.found = 0 if first is None else first.event.seq
        wrong = _prove(memory, base, other, result.found)
        if wrong:
            result.wrong.append(wrong)
        if first is not None or wrong:
            return result
    result.wrong.append("no switch has an effect")
    return result


def _prove(memory: Memory, base: RuleSet, other: RuleSet, found: int) -> str | None:
    """Replay both sides independently: alike in all before `found` (0: throughout), and not at it."""
    worlds = memory.world(base), memory.world(other)
    total = len(memory._events)
    every = max(1, total // 400)  # whole states are compared so often, and at all of the last events before
    for event in memory.events(1, found or None):
        a, b = (world.apply(event) for world in worlds)
        alike = (a.cases, a.errno, a.result, a.map_count) == (b.cases, b.errno, b.result, b.map_count)
        near = found and event.seq >= found - 40
        if alike and (near or event.seq % every == 0 or event.seq == total):
            alike = shown(worlds[0].mms[1]) == shown(worlds[1].mms[1])
        if alike == (event.seq == found):
            return f"event {event.seq} is {'' if alike else 'not '}alike, {found} was found"
    return None


def shown(mm: Mm) -> list[tuple[int, int, int]]:
    return [(v.vm_start, v.vm_end, v.vm_flags) for v in mm.vmas()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--low", type=int, default=1_000, help="fewest events")
    parser.add_argument("--high", type=int, default=100_000, help="most events")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    bad, events, begun = 0, 0, time.monotonic()
    kinds: dict[str, int] = {}
    for seed in range(options.seed, options.seed + options.count):
        result = check(seed, options.low, options.high)
        events += result.events
        kinds[result.kind] = kinds.get(result.kind, 0) + (not result.wrong)
        bad += bool(result.wrong)
        if result.wrong or options.verbose:
            print(result, flush=True)
    print(f"{options.count - bad} of {options.count} planted differences named ({kinds}); {events} events, ", end="")
    print(f"{time.monotonic() - begun:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
