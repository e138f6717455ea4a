"""The states that VMAs go through: each from the event that made it to the one that ended it."""

from __future__ import annotations

from marshal import dumps
from typing import Any, Final

from vmastore.mm.flags import vmflags_from_letters
from vmastore.mm.mm import Mm
from vmastore.mm.vma import Vma, VmaAttrs
from vmastore.replay.maps import letters, observe, vma_name
from vmastore.replay.world import World
from vmastore.store.nodes import keep

# calls that make, end or change address spaces besides their own
_WIDE: Final = frozenset(("fork", "vfork", "clone", "clone3", "execve", "execveat", "exit", "release", "ioctl"))

# calls that neither do that nor move a heap or a stack: the VMAs that changed are all there is to see
PLAIN_CALLS: Final = frozenset(("fault", "madvise", "mmap", "mprotect", "mremap", "munmap"))

_ALIKE: Final = 4096  # attributes of which is remembered how they look
_PLAIN: Final = 0  # marshal's first format

# what an event changed: address space, vm_start, vm_end and facts of each VMA that is there now or otherwise, and
# address space, vm_start, 0, b"" of each that is gone; by address space and address
Changes = list[Any]
# vma_kind_t's number, page offset, dev, inode: with vm_end all that maps and smaps show of a VMA; and what else it
# is, whatever maps of this kernel shows of it: flags, file (kind, path, inode), delta and name, packed
_Known = tuple[Any, ...]
# vm_end; what is known of it; the event that made it look so
_Life = tuple[Any, ...]
# Any, here and below: compiled, a number that only goes from one place to another is not unboxed and boxed again

_NOTHING: Final[Changes] = []


class _Space:
    """What is alive in one address space, by vm_start, and what names its heap and its stack."""

    __slots__ = ("alive", "brk", "mm", "number", "start_brk", "start_stack")

    def __init__(self, mm: Mm) -> None:
        self.mm = mm
        self.number = mm.number
        self.alive: dict[Any, _Life] = {}
        self.mark()

    def mark(self) -> None:
        """Take over where heap and stack are."""
        mm = self.mm
        self.start_brk, self.brk, self.start_stack = mm.start_brk, mm.brk, mm.start_stack


class Lifetimes:
    """Follows the VMAs of a world that is watched.

    Three lists get the values of rows as `ReplayWriter` wants them: `ended`, one row of each state that is over,
    `pages` and `kinds`.
    """

    def __init__(self, world: World, ended: list[int | None], pages: list[int], kinds: list[Any]) -> None:
        world.watch = True
        self.world = world
        self._ended = ended
        self._pages = pages
        self._kinds = kinds
        self._count = 0  # lifetimes that are over
        self._spaces: dict[int, _Space] = {}
        self._shown: dict[int, int] = {}  # vm_flags as VmFlags tells them, by vm_flags
        self._numbers: dict[tuple[Any, ...], Any] = {}  # kinds
        self._alike: dict[VmaAttrs, _Known] = {}  # of anonymous memory that has no other name

    def after(self, seq: Any, call: str, number: Any) -> Changes:
        """What event `seq`, a `call` just applied to address space `number`, changed in all: read only."""
        space = self._spaces.get(number)
        if space is None or (call not in PLAIN_CALLS and self._moved(space, call)):
            return self._visit_all(seq, number, call)
        dirty = space.mm.dirty
        if dirty is None:
            return self._visit_all(seq, number, call)
        if not dirty:
            return _NOTHING
        there: dict[Any, Vma | None] = {}
        start: Any
        for vma in dirty:
            start = vma.vm_start
            if vma.vm_end != vma.vm_start and vma.prev.next is vma:  # linked: it is there
                there[start] = vma
            elif start not in there:
                there[start] = None
        dirty.clear()
        return self._look_at(space, there, seq, [])

    def _moved(self, space: _Space, call: str) -> bool:
        """Whether more may look otherwise than what was noted: see _WIDE, or heap or stack are elsewhere."""
        mm = space.mm
        moved = mm.brk != space.brk or mm.start_brk != space.start_brk or mm.start_stack != space.start_stack
        return moved or call in _WIDE

    def _visit_all(self, seq: int, number: int, call: str) -> Changes:
        """What changed, where that takes more than a look at what was noted in one address space."""
        changes: Changes = []
        if number in self._spaces and call not in _WIDE:
            self._visit(number, seq, changes)
            return changes
        self._leave(seq, changes)
        for each in sorted(self.world.mms):
            self._visit(each, seq, changes)
        return changes

    def _leave(self, seq: int, changes: Changes) -> None:
        """End what was alive in address spaces that are gone or replaced."""
        mms = self.world.mms
        for number in sorted([n for n, space in self._spaces.items() if mms.get(n) is not space.mm]):
            for start in sorted(self._spaces[number].alive):
                changes += (number, start, 0, b"")
            self._end_all(number, seq)

    def _visit(self, number: int, seq: int, changes: Changes) -> None:
        mm = self.world.mms[number]
        space = self._spaces.get(number)
        if space is None or mm.dirty is None:
            space = space or _Space(mm)
            self._spaces[number] = space
            starts = {v.vm_start for v in mm.vmas()} | set(space.alive)
            mm.dirty = mm.dirty or []
        else:
            starts = {v.vm_start for v in mm.dirty} | _renamed(mm, space)
        mm.dirty.clear()
        space.mark()
        self._look_at(space, {start: mm.index.starting(start) for start in starts}, seq, changes)

    def _look_at(self, space: _Space, there: dict[Any, Vma | None], seq: Any, changes: Changes) -> Changes:
        """See what begins at each of these addresses now. One loop with few calls: it runs for all that changes.

        there: the VMA that begins there; None where none does, or none but one that was there before. Returns
        `changes`, longer.
        """
        mm, alive, alike = space.mm, space.alive, self._alike
        start_brk, brk, start_stack = space.start_brk, space.brk, space.start_stack
        number: Any = space.number
        start: Any
        end: Any
        n: Any
        for start in sorted(there) if len(there) > 1 else there:
            old, vma = alive.get(start), there[start]
            if vma is None:
                if old is None:
                    continue  # a VMA that was there for a while
                vma = mm.index.starting(start)
            if vma is None:
                assert old is not None
                changes += (number, start, 0, b"")
                del alive[start]
                old_end, was, born = old
            else:
                end = vma.vm_end
                known = alike.get(vma.attrs)
                if (
                    known is None
                    or vma.label is not None
                    or (vma.vm_start <= brk and vma.vm_end >= start_brk)
                    or vma.vm_start <= start_stack <= vma.vm_end
                ):
                    known = self._seen(mm, vma)
                if old is None:
                    changes += (number, start, end, known[4])
                    alive[start] = (end, known, seq)
                    continue
                old_end, was, born = old
                if old_end != end:
                    changes += (number, start, end, known[4])
                elif was is known or was == known:
                    continue
                else:
                    if was[4] != known[4]:
                        changes += (number, start, end, known[4])
                    if was[:4] == known[:4]:  # another thing that looks the same
                        alive[start] = (end, known, born)
                        continue
                alive[start] = (end, known, seq)
            n = self._count = self._count + 1
            keep(self._ended, self._pages, n, number, start, old_end, was[1], was[0], born, seq)
        return changes

    def _seen(self, mm: Mm, vma: Vma) -> _Known:
        """How a VMA looks, and what else it is."""
        attrs = vma.attrs
        file, label = attrs.vm_file, attrs.anon_name or vma.label
        shown = self._shown.get(attrs.vm_flags)
        if shown is None:
            shown = self._shown[attrs.vm_flags] = vmflags_from_letters(letters(mm, vma))
        if file is None:  # the page offset of anonymous memory is nothing that a user could see
            name = vma_name(mm, vma)
            told = dumps((attrs.vm_flags, None, None, None, 0, label), _PLAIN)
            found = (self._number(shown, None, name), 0, "00:00", 0, told)
            if vma.label is None and name == ("" if attrs.anon_name is None else f"[anon:{attrs.anon_name}]"):
                if len(self._alike) >= _ALIKE:
                    self._alike.clear()
                self._alike[attrs] = found
            return found
        _, _, _, offset, dev, inode, name, _, _ = observe(mm, vma)
        told = dumps((attrs.vm_flags, file.kind, file.path, file.inode, attrs.delta, label), _PLAIN)
        return self._number(shown, name if inode else None, name), offset >> 12, dev, inode, told

    def _number(self, vm_flags: int, path: str | None, name: str) -> int:
        """The number of a kind: no two are alike, since queries compare by it."""
        key = (vm_flags, path, name)
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self._numbers) + 1
            self._kinds += (found, vm_flags, path, name)
        return found

    def _end_all(self, number: int, seq: int | None) -> None:
        for start, (end, known, born) in self._spaces.pop(number).alive.items():
            self._count += 1
            keep(self._ended, self._pages, self._count, number, start, end, known[1], known[0], born, seq)

    def finish(self) -> None:
        """Write what is still alive."""
        for number in list(self._spaces):
            self._end_all(number, None)


def _renamed(mm: Mm, space: _Space) -> set[int]:
    """Starts of VMAs that may be called otherwise ([heap], [stack]) since brk or the stack's address moved."""
    brks = (space.brk, mm.brk)
    begins = (space.start_brk, mm.start_brk)
    ranges = [(min(brks), max(brks))] if brks[0] != brks[1] else []
    if begins[0] != begins[1]:
        ranges.append((min(begins), max(*begins, *brks)))
    if space.start_stack != mm.start_stack:
        ranges += [(place, place) for place in (space.start_stack, mm.start_stack)]
    found = set()
    for low, high in ranges:
        vma = mm.find_vma(max(low - 1, 0))
        while vma is not mm.tail and vma.vm_start <= high:
            found.add(vma.vm_start)
            vma = vma.next
    return found
