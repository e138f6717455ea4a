"""Address spaces as drawings: one character a page, one letter a VMA.

    >>> mm = layout("PPP***NNN", "wwwrrrWWW")
    >>> draw(mm), shades(mm)
    ('PPP***NNN', 'wwwrrrWWW')

The first row names VMAs. A space is a hole. A piece keeps the letter of the VMA it was split from, the
survivor of a merge its own, a copy that of its source; `*` is a VMA without a letter (a new mapping).
Two touching VMAs of one letter are told apart by upper and lower case: `AaA` are three; so are `*+*`.

The second row shades the pages: `n` PROT_NONE, `r` read-only, `w` read-write, `x` read-write-execute;
in capitals once the VMA has an anon_vma. Without it, everything is `w`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby

from vmastore.mm.flags import (
    PAGE_SHIFT,
    VM_ACCESS_FLAGS,
    VM_ACCOUNT,
    VM_EXEC,
    VM_MAYEXEC,
    VM_MAYREAD,
    VM_MAYWRITE,
    VM_READ,
    VM_WRITE,
)
from vmastore.mm.mm import Config, Env, Mm
from vmastore.mm.rules import RuleSet, preset
from vmastore.mm.vma import AnonVma, File, Vma

BASE = 0x7F0000000000  # the address of page 0
_PROT = {"n": 0, "r": VM_READ, "w": VM_READ | VM_WRITE, "x": VM_READ | VM_WRITE | VM_EXEC}
_SHADE = {prot: letter for letter, prot in _PROT.items()}
NEW, OTHER = "*", "+"  # a VMA without a letter; the one that touches it


def at(page: int) -> int:
    """The address of a page of the drawing."""
    return BASE + (page << PAGE_SHIFT)


def layout(
    drawing: str,
    shading: str = "",
    *,
    rules: str | RuleSet = "6.18",
    together: str = "",
    forked: str = "",
    flags: Mapping[str, int] | None = None,
    files: Mapping[str, File] | None = None,
    config: Config | None = None,
) -> Mm:
    """The address space of a drawing: anonymous private VMAs, at the offsets that mmap gives.

    together: letters whose written VMAs share one anon_vma. forked: letters whose VMAs were inherited
    through fork while written. flags: vm_flags added, by letter. files: what is mapped, by letter.
    """
    found = preset(rules) if isinstance(rules, str) else rules
    mm = Mm(Env(found, config))
    common = AnonVma()
    for first, letter, pages in _runs(drawing):
        shade = (shading or "w" * len(drawing))[first]
        bits = flag_bits(shade.lower()) | (flags or {}).get(letter.upper(), 0)
        attrs = mm.env.table.get(bits, (files or {}).get(letter.upper()))
        label = None if letter in (NEW, OTHER) else letter.upper()
        vma = Vma(at(first), at(first + pages), attrs, label=label)
        if shade.isupper():
            vma.anon_vma = common if letter.upper() in together else AnonVma()
            vma.chain = (vma.anon_vma, AnonVma()) if letter.upper() in forked else (vma.anon_vma,)
        mm.insert(vma)
    return mm


def _runs(drawing: str) -> Iterator[tuple[int, str, int]]:
    """(first page, letter, pages) of every VMA of a drawing."""
    page = 0
    for letter, run in groupby(drawing):
        pages = len(list(run))
        if letter != " ":
            yield page, letter, pages
        page += pages


def flag_bits(shade: str) -> int:
    """What mmap gives an anonymous private mapping of that protection."""
    prot = _PROT[shade]
    return prot | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC | (VM_ACCOUNT if prot & VM_WRITE else 0)


def draw(mm: Mm, first: int = 0) -> str:
    """The drawing of an address space from page `first` on, without the hole at its end."""
    text, before = "", ""
    for vma in _from(mm, first):
        letter = vma.label or NEW
        touching = vma.prev.vm_end == vma.vm_start
        if touching and before == letter:
            letter = OTHER if letter == NEW else letter.lower()
        text = text.ljust(_page(vma.vm_start) - first) + letter * _pages(vma)
        before = letter
    return text


def shades(mm: Mm, first: int = 0) -> str:
    """The second row: protection, and in capitals what has been written."""
    text = ""
    for vma in _from(mm, first):
        shade = _SHADE.get(vma.vm_flags & VM_ACCESS_FLAGS, "?")
        shade = shade if vma.anon_vma is None else shade.upper()
        text = text.ljust(_page(vma.vm_start) - first) + shade * _pages(vma)
    return text


def _from(mm: Mm, first: int) -> Iterator[Vma]:
    return (vma for vma in mm.vmas() if vma.vm_start >= at(first))


def _page(addr: int) -> int:
    return (addr - BASE) >> PAGE_SHIFT


def _pages(vma: Vma) -> int:
    return (vma.vm_end - vma.vm_start) >> PAGE_SHIFT
