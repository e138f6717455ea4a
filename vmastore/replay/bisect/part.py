"""Where two rule sets, or two sets of options, decide the events of one trace differently."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from vmastore.events import Event
from vmastore.mm.flags import vmflags_letters
from vmastore.mm.mm import Env, Mm
from vmastore.mm.vma import UffdCtx, Vma
from vmastore.replay.state import MM_VALUES
from vmastore.replay.world import Outcome, World

_EVERYWHERE = {"release", "exit", "fork", "vfork", "clone", "clone3"}  # may change other address spaces too


class Difference(NamedTuple):
    """An event whose outcome is another on the two sides.

    what: `outcome` (merges and splits, errno, result or the number of VMAs), or `vmas`: those alike,
    but the VMAs left behind are not, and `detail` says how the first of them differs.
    """

    event: Event
    outcomes: tuple[Outcome, Outcome]
    what: str
    detail: str = ""


def differ(one: Outcome, two: Outcome) -> bool:
    """Whether two outcomes of one event differ: in what merged or split, in the answer, in the count of VMAs."""
    return (
        one.map_count != two.map_count or one.errno != two.errno or one.result != two.result or one.cases != two.cases
    )


def differences(one: World, two: World, events: Iterable[Event]) -> Iterator[Difference]:
    """Every event that the two worlds, which must be empty, decide differently from the same state.

    As long as nothing is yielded, both show the same VMAs after every event. After a difference the
    second world takes the first one's state over (all of it: anon_vmas, policies, contexts), so that
    the next one yielded is a decision of its own and no consequence of this one.
    """
    two.files, two.images = one.files, one.images  # the same description is the same object on both sides
    one.watch = two.watch = True
    for event in events:
        a, b = one.apply(event), two.apply(event)
        if differ(a, b):
            yield Difference(event, (a, b), "outcome")
        elif (detail := _unlike(one, two, event)) is not None:
            yield Difference(event, (a, b), "vmas", detail)
        else:
            continue
        take_over(two, one)


def _unlike(one: World, two: World, event: Event) -> str | None:
    """How the two show other VMAs, given that they were alike before the event; None: they do not."""
    numbers = sorted(one.mms.keys() | two.mms.keys()) if event.call in _EVERYWHERE else [event.mm]
    spaces = ((one.mms.get(number), two.mms.get(number)) for number in numbers)
    return next((detail for a, b in spaces if (detail := _unlike_space(a, b)) is not None), None)


def _unlike_space(a: Mm | None, b: Mm | None) -> str | None:
    if a is None or b is None:
        return None if a is b else "the address space is there on one side only"
    if a.dirty is None or b.dirty is None:  # new or loaded whole
        starts = {vma.vm_start for mm in (a, b) for vma in mm.vmas()}
    elif a.dirty or b.dirty:
        starts = {vma.vm_start for vma in a.dirty} | {vma.vm_start for vma in b.dirty}
    else:
        return None
    a.dirty, b.dirty = [], []
    for start in sorted(starts):
        x, y = _shown(a, start), _shown(b, start)
        if x != y:
            return f"at {start:#x}: {_describe(x, y)}"
    return None


class _Shown(NamedTuple):
    """What maps and smaps show of a VMA."""

    vm_end: int
    vm_flags: int
    file: tuple[object, ...] | None
    name: str | None


def _shown(mm: Mm, start: int) -> _Shown | None:
    """The VMA that begins there."""
    vma = mm.vma_lookup(start)
    if vma is None or vma.vm_start != start:
        return None
    attrs = vma.attrs
    file = attrs.vm_file
    named = None if file is None else (file.kind, file.path, file.inode, attrs.delta)
    return _Shown(vma.vm_end, attrs.vm_flags, named, attrs.anon_name or vma.label)


def _describe(x: _Shown | None, y: _Shown | None) -> str:
    if x is None or y is None:
        return "a VMA begins there on one side only"
    if x.vm_end != y.vm_end:
        return f"it ends at {x.vm_end:#x} or {y.vm_end:#x}"
    if x.vm_flags != y.vm_flags:
        bits = x.vm_flags ^ y.vm_flags
        return f"flags differ: {vmflags_letters(bits) or hex(bits)}"
    return "the name differs" if x.name != y.name else "the file or its offset differs"


def take_over(target: World, source: World) -> None:
    """Make all address spaces of `target` copies of those of `source`, under the rules of `target`."""
    env = target.env
    env.uffds = {number: _context(ctx) for number, ctx in source.env.uffds.items()}
    env.zero_dev, env.inferred = source.env.zero_dev, source.env.inferred
    contexts = {id(ctx): env.uffds[number] for number, ctx in source.env.uffds.items()}
    env.forked_uffds = [contexts.setdefault(id(ctx), _context(ctx)) for ctx in source.env.forked_uffds]
    target.mms = {number: _copy(mm, env, contexts) for number, mm in source.mms.items()}
    target.limits.restore(source.limits.state(source.mms), target.mms)
    target.oops = source.oops


def _context(ctx: UffdCtx) -> UffdCtx:
    copy = UffdCtx(ctx.file, ctx.features, ctx.mm)
    copy.released = ctx.released
    return copy


def _copy(mm: Mm, env: Env, contexts: dict[int, UffdCtx]) -> Mm:
    copy = Mm(env, mm.number)
    last = copy.head
    for vma in mm.vmas():
        attrs = vma.attrs
        uffd = attrs.uffd
        if uffd is not None:
            uffd = contexts.setdefault(id(uffd), _context(uffd))
        same = env.table.get(
            attrs.vm_flags,
            attrs.vm_file,
            attrs.vm_policy,
            uffd,
            attrs.anon_name,
            attrs.delta,
            attrs.anon_delta,
        )
        twin = Vma(vma.vm_start, vma.vm_end, same, vma.anon_vma, vma.chain, vma.label)
        twin.unsure, twin.base = vma.unsure, vma.base
        copy.insert_after(last, twin)
        last = twin
    for name in MM_VALUES:
        setattr(copy, name, getattr(mm, name))
    copy.pmds = set(mm.pmds)
    copy.guards = mm.guards.copy()
    copy.dirty = []
    if mm.dirty is not None:
        mm.dirty.clear()
    return copy
