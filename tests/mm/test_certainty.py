"""`certain` means it: whatever an unsure VMA may be, the decision is the same; and it is not said too rarely."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
from layout import at, flag_bits, layout
from operations import Op, brk, copy, extend, modify, new

from vmastore.mm.merge.certainty import absorb_unsure
from vmastore.mm.mm import Env, Mm
from vmastore.mm.rules import PRESETS, preset
from vmastore.mm.unknown import UNSURE_BASE, UNSURE_PIECE
from vmastore.mm.vma import AnonVma, BaseAnon, Vma

# what a VMA may be: unwritten, written alone, written with the others of its kind, inherited while written
STATES = ("w", "W", "T", "F")
UNKNOWN = {"1": ("w", "W", "T"), "2": ("w", "W", "T", "F")}  # unsure; unsure since before a fork
BASES = "Bb"  # of a first observation: written, or not known to be
LATE = "L"  # written since the trace began, when first is open: alone, or a neighbour's anon_vma
SHARES = "PCN"  # written with the anon_vma of that VMA
GEOMETRIES: dict[str, tuple[str, str, Op]] = {
    "new": ("PPP   NNN", "PN", new(3, 6)),
    "heap": ("PPP   NNN", "PN", brk(3, 6)),
    "whole": ("PPPCCCNNN", "PCN", modify(3, 6, "w")),
    "head": ("PPPCCCCCC", "PC", modify(3, 6, "w")),
    "tail": ("CCCCCCNNN", "CN", modify(3, 6, "w")),
    "apart": ("PP CCC NN", "PCN", modify(3, 6, "w")),
    "inside": ("PPPCCCCCCCCCNNN", "PCN", modify(6, 9, "w")),
    "new-apart": ("PP     NN", "PN", new(3, 6)),
    "extend": ("PPP   NNN", "PN", extend(0, 3)),
    "copy": ("PPP   NNN      CCC", "PNC", copy(15, 3)),
}


def _space(drawing: str, letters: str, states: tuple[str, ...], kernel: str) -> Mm:
    """C is about to become what P and N are; every VMA is in its state, `1` and `2` unsure."""
    mm = layout(drawing, rules=kernel)
    mm.start_brk = at(0)
    common = AnonVma()
    for vma in mm.vmas():
        state = states[letters.index(vma.label or "")]
        if vma.label == "C" and vma.vm_start != at(15):
            vma.attrs = vma.attrs.with_flags(flag_bits("r"))
        if vma.vm_start == at(15):  # a copy merges where the page offsets go on
            vma.attrs = vma.attrs.with_delta(-12)
        vma.unsure = int(state) if state in UNKNOWN else 0
        if state in BASES:
            vma.unsure, vma.base = UNSURE_BASE, BaseAnon(state == "B")
        if state == LATE:
            vma.unsure, vma.base = UNSURE_BASE, BaseAnon(True, own=True, late=True)
        if state in "WTFBL":
            vma.anon_vma = common if state == "T" else AnonVma()
            vma.chain = (vma.anon_vma, AnonVma()) if state == "F" else (vma.anon_vma,)
    _share(mm, letters, states)
    return mm


def _share(mm: Mm, letters: str, states: tuple[str, ...]) -> None:
    vmas = {vma.label: vma for vma in mm.vmas()}
    for letter, state in zip(letters, states, strict=True):
        if state.upper() in SHARES and state.islower():
            other = vmas[state.upper()]
            vmas[letter].anon_vma, vmas[letter].chain = other.anon_vma, other.chain
        elif state in SHARES:
            anon = vmas[state].anon_vma
            assert anon is not None
            vmas[letter].anon_vma, vmas[letter].chain = anon, (anon,)


def _decided(geometry: str, states: tuple[str, ...], kernel: str) -> tuple[str, bool]:
    drawing, letters, op = GEOMETRIES[geometry]
    mm = _space(drawing, letters, states, kernel)
    op(mm)
    merges = [d.case for d in mm.decisions if d.action == "merge"]
    return "+".join(merges), all(d.certain for d in mm.decisions)


def _readings(letters: str, states: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Every way in which the unknown states may turn out: alone, together, with the anon_vma of another."""
    known = tuple(letter for letter, state in zip(letters, states, strict=True) if state in "WTF")
    return product(*((*UNKNOWN[state], *known) if state in UNKNOWN else (state,) for state in states))


@pytest.mark.parametrize("kernel", ["6.1", "6.8", "6.12", "6.18"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_certain_decisions_do_not_depend_on_unknowns(geometry: str, kernel: str) -> None:
    """For all states of the VMAs around: certain exactly where every reading of the unknowns decides alike."""
    wrong, letters = [], GEOMETRIES[geometry][1]
    for states in product((*STATES, *UNKNOWN), repeat=len(letters)):
        answers = {_decided(geometry, reading, kernel)[0] for reading in _readings(letters, states)}
        if _decided(geometry, states, kernel)[1] != (len(answers) == 1):
            wrong.append((states, answers))
    assert not wrong


def _base_readings(letters: str, states: tuple[str, ...], done: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every way in which what was open at first may turn out: alone, inherited, shared with an earlier one."""
    if len(done) == len(states):
        yield done
        return
    state = states[len(done)]
    choices = [state]
    if state in BASES:
        shared = [letters[n].lower() for n, read in enumerate(done) if states[n] in BASES and read in "WF"]
        choices = [*("W", "F"), *shared, *(["w"] if state == "b" else [])]
    for choice in choices:
        yield from _base_readings(letters, states, (*done, choice))


@pytest.mark.parametrize("kernel", ["6.1", "6.8", "6.12", "6.18"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_certain_decisions_do_not_depend_on_what_was_before(geometry: str, kernel: str) -> None:
    """The same for VMAs of which a first observation leaves open with whom they share, and since when."""
    wrong, letters = [], GEOMETRIES[geometry][1]
    for states in product(("w", "W", "F", *BASES), repeat=len(letters)):
        answers = {_decided(geometry, reading, kernel)[0] for reading in _base_readings(letters, states)}
        if _decided(geometry, states, kernel)[1] != (len(answers) == 1):
            wrong.append((states, answers))
    assert not wrong


def _late_readings(letters: str, states: tuple[str, ...], done: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every way in which what was written late may have been: alone, with one that is known, with an earlier one."""
    if len(done) == len(states):
        yield done
        return
    choices = [states[len(done)]]
    if choices == [LATE]:
        known = [letter for letter, state in zip(letters, states, strict=True) if state == "W"]
        earlier = [letters[n].lower() for n, read in enumerate(done) if states[n] == LATE and read == "W"]
        choices = ["W", *known, *earlier]
    for choice in choices:
        yield from _late_readings(letters, states, (*done, choice))


@pytest.mark.parametrize("kernel", ["6.1", "6.8", "6.12", "6.18"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_certain_decisions_do_not_depend_on_when_it_was_written(geometry: str, kernel: str) -> None:
    """The same for VMAs that are written, but of which the trace does not show since when."""
    wrong, letters = [], GEOMETRIES[geometry][1]
    for states in product(("w", "W", "F", LATE), repeat=len(letters)):
        answers = {_decided(geometry, reading, kernel)[0] for reading in _late_readings(letters, states)}
        if _decided(geometry, states, kernel)[1] != (len(answers) == 1):
            wrong.append((states, answers))
    assert not wrong


@pytest.mark.parametrize("kernel", PRESETS)
def test_what_is_known_is_certain(kernel: str) -> None:
    """Without an unsure VMA nothing is uncertain."""
    for geometry, (_, letters, _) in GEOMETRIES.items():
        for states in product(STATES, repeat=len(letters)):
            assert _decided(geometry, states, kernel)[1]


def _part(state: str) -> Vma:
    """w, W: known; 1, 2: unsure; p: a piece; B, b: open since before; c: and written since; d: and unsure since."""
    kinds = dict.fromkeys("Bbc", UNSURE_BASE) | {"1": 1, "2": 2, "p": UNSURE_PIECE | 1, "d": UNSURE_BASE | 1}
    vma = Vma(0, 4096, Mm(Env(preset("6.18"))).env.table.get(0))
    vma.unsure = kinds.get(state, 0)
    if state in "Bbcd":
        vma.base = BaseAnon(state == "B")
    if state in "WBc":
        vma.anon_vma = AnonVma()
        vma.chain = (vma.anon_vma,)
    return vma


@pytest.mark.parametrize(
    ("parts", "unsure", "base"),
    [
        ("ww", 0, None), ("wW", 0, None), ("Ww", 0, None), ("w1", 1, None), ("1w", 1, None), ("w2", 2, None),
        ("12", 2, None), ("21", 2, None), ("1W", 0, None), ("W2", 0, None), ("wB", UNSURE_BASE, 1),
        ("Bw", UNSURE_BASE, 0), ("wb", UNSURE_BASE, 1), ("bB", UNSURE_BASE, 1), ("Bb", UNSURE_BASE, 0),
        ("bb", UNSURE_BASE, 0), ("b1", UNSURE_BASE | 1, 0), ("2b", UNSURE_BASE | 2, 1), ("B1", UNSURE_BASE, 0),
        ("2B", UNSURE_BASE, 1), ("c1", UNSURE_BASE, 0), ("dw", UNSURE_BASE | 1, 0), ("dB", UNSURE_BASE, 1),
        ("WB", 0, None), ("bW", 0, None), ("Wd", 0, None), ("w1b", UNSURE_BASE | 1, 2), ("1wW", 0, None),
        ("bwB", UNSURE_BASE, 2), ("p1", UNSURE_PIECE | 1, None), ("1p", UNSURE_PIECE | 1, None),
        ("pw", UNSURE_PIECE | 1, None), ("pW", 0, None), ("pB", UNSURE_BASE, 1),
    ],
)  # fmt: skip
def test_what_a_merged_vma_is(parts: str, unsure: int, base: int | None) -> None:
    """Surely written if a part is; else as open as its most open part, with the base that says most (by part)."""
    survivor, *others = vmas = [_part(state) for state in parts]
    bases = [vma.base for vma in vmas]
    absorb_unsure(survivor, tuple(others))
    assert survivor.unsure == unsure
    assert survivor.base is (None if base is None else bases[base])
