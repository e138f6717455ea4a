"""The states that VMAs go through: each from the event that made it to the one that ended it."""

from __future__ import annotations

from typing import Any, NamedTuple

from vmastore.events import Event
from vmastore.mm.flags import vmflags_from_letters
from vmastore.mm.mm import Mm
from vmastore.mm.vma import Vma
from vmastore.replay.maps import letters, observe, vma_name
from vmastore.replay.world import World
from vmastore.store.nodes import page_node, seq_node

# calls that make, end or change address spaces besides their own
_WIDE = frozenset(("fork", "vfork", "clone", "clone3", "execve", "execveat", "exit", "release", "ioctl"))

# vm_end, vm_flags, file (kind, path, inode), delta, name: what a VMA is, whatever maps of this kernel shows of it
Facts = tuple[int, int, str | None, str | None, int | None, int, str | None]
Change = tuple[int, int, Facts | None]  # address space, vm_start, what starts there now
_Marks = tuple[int, int, int]


# a line of smaps: vm_end, vm_flags as VmFlags tells them (perms, too), offset in bytes, dev, inode, name
_Line = tuple[int, int, int, str, int, str]
_Life = tuple[_Line, int, Facts]  # a VMA as maps shows it, the event that made it so, and what it is


class _Space(NamedTuple):
    """What is alive in one address space, by vm_start."""

    mm: Mm
    alive: dict[int, _Life]


class Lifetimes:
    """Follows the VMAs of a world that is watched; `ended` gets a row for each state that is over.

    A row: (replay, mm, vm_start, vm_end, vm_flags, pgoff, path, name, born_seq, died_seq, seq_node, page_node).
    """

    def __init__(self, world: World, replay: int, ended: list[tuple[Any, ...]]) -> None:
        self._replay = replay
        world.watch = True
        self.world = world
        self._ended = ended
        self._spaces: dict[int, _Space] = {}
        self._marks: dict[int, _Marks] = {}
        self._shown: dict[int, int] = {}  # vm_flags as VmFlags tells them, by vm_flags

    def after(self, event: Event) -> list[Change]:
        """What the event, just applied, changed, in all address spaces: by number and address."""
        space = self._spaces.get(event.mm)
        if space is not None and event.call not in _WIDE:
            mm = space.mm
            if (
                not mm.dirty
                and mm.dirty is not None
                and (mm.start_brk, mm.brk, mm.start_stack) == self._marks[mm.number]
            ):
                return []
        changes: list[Change] = []
        if event.call in _WIDE or event.mm not in self._spaces:
            self._leave(event.seq, changes)
            for number in self.world.mms:
                self._visit(number, event.seq, changes)
        else:
            self._visit(event.mm, event.seq, changes)
        if len(changes) > 1:
            changes.sort(key=lambda change: change[:2])
        return changes

    def _leave(self, seq: int, changes: list[Change]) -> None:
        """End what was alive in address spaces that are gone or replaced."""
        mms = self.world.mms
        for number in [n for n, space in self._spaces.items() if mms.get(n) is not space.mm]:
            changes += [(number, start, None) for start in self._spaces[number].alive]
            self._end_all(number, seq)

    def _visit(self, number: int, seq: int, changes: list[Change]) -> None:
        mm = self.world.mms[number]
        space = self._spaces.get(number)
        marks = (mm.start_brk, mm.brk, mm.start_stack)
        if space is None or mm.dirty is None:
            space = space or _Space(mm, {})
            self._spaces[number] = space
            starts = {v.vm_start for v in mm.vmas()} | set(space.alive)
            mm.dirty = mm.dirty or []
        else:
            starts = {v.vm_start for v in mm.dirty}
            if marks != self._marks[number]:
                starts |= _renamed(mm, self._marks[number], marks)
        mm.dirty.clear()
        self._marks[number] = marks
        for start in starts:
            self._look(space, start, seq, changes)

    def _look(self, space: _Space, start: int, seq: int, changes: list[Change]) -> None:
        mm, alive = space
        old = alive.get(start)
        vma = mm.index.starting(start)
        if vma is None:
            if old is not None:
                changes.append((mm.number, start, None))
                self._write(mm.number, start, old, seq)
                del alive[start]
            return
        line, facts = self._line(mm, vma), _facts(vma)
        if old is None:
            changes.append((mm.number, start, facts))
        else:
            if old[2] != facts:
                changes.append((mm.number, start, facts))
                if old[0] == line:  # another thing that looks the same
                    alive[start] = (line, old[1], facts)
                    return
            elif old[0] == line:
                return
            self._write(mm.number, start, old, seq)
        alive[start] = (line, seq, facts)

    def _line(self, mm: Mm, vma: Vma) -> _Line:
        attrs = vma.attrs
        shown = self._shown.get(attrs.vm_flags)
        if shown is None:
            shown = self._shown[attrs.vm_flags] = vmflags_from_letters(letters(mm, vma))
        if attrs.vm_file is None:
            return vma.vm_end, shown, 0, "00:00", 0, vma_name(mm, vma)
        _, end, _, offset, dev, inode, name, _, _ = observe(mm, vma)
        return end, shown, offset, dev, inode, name

    def _end_all(self, number: int, seq: int | None) -> None:
        self._marks.pop(number, None)
        for start, life in self._spaces.pop(number).alive.items():
            self._write(number, start, life, seq)

    def finish(self) -> None:
        """Write what is still alive."""
        for number in list(self._spaces):
            self._end_all(number, None)

    def _write(self, number: int, start: int, life: _Life, died: int | None) -> None:
        (end, flags, offset, _, inode, name), born, _ = life
        path = name if inode else None
        pgoff = offset >> 12  # pages: fits 63 bits
        nodes = seq_node(born, died), page_node(start, end)
        self._ended.append((self._replay, number, start, end, flags, pgoff, path, name, born, died, *nodes))


def _facts(vma: Vma) -> Facts:
    attrs = vma.attrs
    file, name = attrs.vm_file, attrs.anon_name or vma.label
    if file is None:  # the page offset of anonymous memory is nothing that a user could see
        return (vma.vm_end, attrs.vm_flags, None, None, None, 0, name)
    return (vma.vm_end, attrs.vm_flags, file.kind, file.path, file.inode, attrs.delta, name)


def _renamed(mm: Mm, old: _Marks, new: _Marks) -> set[int]:
    """Starts of VMAs that may be called otherwise ([heap], [stack]) since brk or the stack's address moved."""
    ranges = [(min(old[1], new[1]), max(old[1], new[1]))]
    if old[0] != new[0]:
        ranges.append((min(old[0], new[0]), max(*old[:2], *new[:2])))
    if old[2] != new[2]:
        ranges += [(old[2], old[2]), (new[2], new[2])]
    found = set()
    for low, high in ranges:
        vma = mm.find_vma(max(low - 1, 0))
        while vma is not mm.tail and vma.vm_start <= high:
            found.add(vma.vm_start)
            vma = vma.next
    return found
