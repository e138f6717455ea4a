"""The predicate language: against a naive evaluator on random layouts, and its errors by column."""

from __future__ import annotations

import errno
import operator
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmastore.errors import InputError
from vmastore.mm.flags import LETTERS, VM_MAYSHARE
from vmastore.mm.mm import Env, Mm
from vmastore.mm.outcome import Decision
from vmastore.mm.rules import preset
from vmastore.mm.vma import Vma
from vmastore.replay.predicate import Moment, parse
from vmastore.replay.why import why_apart
from vmastore.replay.world import Outcome

BASE = 0x10000
PAGE = 4096
SPAN = 24  # pages that the layouts and the questions are about


@dataclass(frozen=True)
class Line:
    """A VMA, told naively."""

    start: int
    end: int
    flags: int

    @property
    def perms(self) -> str:
        return "".join(
            (
                "r" if self.flags & 1 else "-",
                "w" if self.flags & 2 else "-",
                "x" if self.flags & 4 else "-",
                "s" if self.flags & VM_MAYSHARE else "p",
            )
        )


@dataclass(frozen=True)
class Scene:
    """A layout and an outcome, both as the engine has them and as lines."""

    lines: list[Line]
    moment: Moment


FLAGS = [0x71, 0x73, 0x77, 0x70, 0xF9, 0x40000071]  # r--p, rw-p, rwxp, ---p, r--s, r--p nh


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Runs of pages: a hole, or a VMA of some flags."""
    mm = Mm(Env(preset("6.18")), 1)
    at, lines = BASE, []
    for length, flags in draw(st.lists(st.tuples(st.integers(1, 5), st.sampled_from([None, *FLAGS])), max_size=7)):
        if flags is not None:
            mm.insert(Vma(at, at + length * PAGE, mm.env.table.get(flags)))
            lines.append(Line(at, at + length * PAGE, flags))
        at += length * PAGE
    actions = draw(st.lists(st.sampled_from(["merge", "split", "none"]), max_size=3))
    decisions = [Decision("vma_modify_flags", action, BASE, at, "1") for action in actions]
    code = draw(st.sampled_from([0, errno.ENOMEM, errno.EINVAL]))
    outcome = Outcome(draw(st.integers(1, 9)), 1, decisions, mm.map_count, None, code, None)
    return Scene(lines, Moment(mm, outcome))


Naive = Callable[[Scene], bool]
addresses = st.integers(0, SPAN).map(lambda n: BASE + n * PAGE // 2)
compares = st.sampled_from(
    [
        (">", operator.gt),
        ("<", operator.lt),
        (">=", operator.ge),
        ("<=", operator.le),
        ("=", operator.eq),
        ("==", operator.eq),
        ("!=", operator.ne),
    ]
)


def at(scene: Scene, addr: int) -> Line | None:
    return next((line for line in scene.lines if line.start <= addr < line.end), None)


def total(flags: int) -> Callable[[Scene], int]:
    return lambda scene: sum(x.end - x.start for x in scene.lines if x.flags & flags == flags)


def lost(scene: Scene) -> int:
    return sum(a.end == b.start for a, b in zip(scene.lines, scene.lines[1:], strict=False))


def actions(scene: Scene, action: str) -> int:
    return sum(d.action == action for d in scene.moment.outcome.decisions)


NUMBERS: list[tuple[str, Callable[[Scene], int]]] = [
    ("map_count", lambda s: len(s.lines)),
    ("lost_merges", lost),
    ("largest_vma", lambda s: max((x.end - x.start for x in s.lines), default=0)),
    ("bytes mapped", total(0)),
    ("bytes_mapped", total(0)),
    ("bytes writable", total(2)),
    ("bytes  executable", total(4)),
    ("wx", total(6)),
    ("seq", lambda s: s.moment.outcome.seq),
    ("errno", lambda s: s.moment.outcome.errno),
    ("merges", lambda s: actions(s, "merge")),
    ("splits", lambda s: actions(s, "split")),
]


@st.composite
def comparison(draw: st.DrawFn) -> tuple[str, Naive]:
    name, value = draw(st.sampled_from(NUMBERS))
    sign, compare = draw(compares)
    other = draw(st.one_of(st.sampled_from(NUMBERS), st.integers(0, 6), st.integers(0, 6).map(lambda n: n * PAGE)))
    if isinstance(other, tuple):
        return f"{name} {sign} {other[0]}", lambda s: compare(value(s), other[1](s))
    shown = draw(st.sampled_from([str(other), hex(other), *([f"{other // 1024}k"] if other % 1024 == 0 else [])]))
    if draw(st.booleans()):
        return f"{shown}{sign}{name}", lambda s: compare(other, value(s))
    return f"{name} {sign}{shown}", lambda s: compare(value(s), other)


@st.composite
def named_test(draw: st.DrawFn) -> tuple[str, Naive]:
    a, b = draw(addresses), draw(addresses)
    kind = draw(
        st.sampled_from(["split_at", "merged", "mapped", "one", "perms", "flags", "errno", "unlike", "alone"])
    )
    if kind == "split_at":
        starts = draw(st.sampled_from([f"split_at {a:#x}", f"split_at({a})"]))
        return starts, lambda s: any(x.end == a for x in s.lines) and any(x.start == a for x in s.lines)
    if kind == "merged":
        return f"merged {a:#x} {b:#x}", lambda s: at(s, a) is not None and at(s, a) == at(s, b)
    if kind == "mapped":
        low, high = min(a, b), max(a, b) + 1
        text = draw(st.sampled_from([f"mapped {low:#x}-{high:#x}", f"mapped {low:#x}+{high - low}"]))
        return text, lambda s: all(at(s, addr) for addr in (*range(low, high, 512), high - 1))
    if kind == "one":
        return f"mapped {a}", lambda s: at(s, a) is not None
    if kind == "perms":
        wanted = draw(st.sampled_from(["r--p", "rw-p", "rwxp", "---p", "r--s", "r", "rw", "??x?", "r-?p"]))
        return f"perms {a:#x} {wanted}", lambda s: _like(at(s, a), wanted)
    if kind == "flags":
        letters = draw(st.lists(st.sampled_from([(1, "rd"), (2, "wr"), (0x40000000, "nh")]), min_size=1, max_size=2))
        bits = sum({bit for bit, _ in letters})
        text = f"flags {a:#x} has {', '.join(name for _, name in letters)}"
        return text, lambda s: (x := at(s, a)) is not None and x.flags & bits == bits
    if kind == "errno":
        return "errno ENOMEM", lambda s: s.moment.outcome.errno == errno.ENOMEM
    if kind == "unlike":
        return "errno != EINVAL", lambda s: s.moment.outcome.errno != errno.EINVAL
    name, value = draw(st.sampled_from([n for n in NUMBERS if n[0] in ("wx", "errno", "splits")]))
    return name, lambda s: value(s) > 0


def _like(line: Line | None, wanted: str) -> bool:
    return line is not None and all(a in ("?", b) for a, b in zip(wanted, line.perms, strict=False))


def _join(parts: tuple[tuple[str, Naive], str, tuple[str, Naive]]) -> tuple[str, Naive]:
    """Both sides in parentheses, so that the naive side need know no precedence."""
    (left, x), word, (right, y) = parts
    if word == "and":
        return f"({left}) and ({right})", lambda s: x(s) and y(s)
    return f"({left}) or ({right})", lambda s: x(s) or y(s)


def _negate(part: tuple[str, Naive]) -> tuple[str, Naive]:
    text, naive = part
    return f"not ({text})", lambda s: not naive(s)


expressions = st.recursive(
    st.one_of(comparison(), named_test()),
    lambda inner: st.one_of(st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(_join), inner.map(_negate)),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(scenes(), expressions)
def test_agrees_with_a_naive_evaluator(scene: Scene, expression: tuple[str, Naive]) -> None:
    """What a predicate says is what a naive reading of the lines says."""
    text, naive = expression
    assert parse(text)(scene.moment) == bool(naive(scene)), text


@settings(max_examples=100, deadline=None)
@given(scenes(), st.lists(st.tuples(st.booleans(), comparison()), min_size=2, max_size=5), st.data())
def test_precedence(scene: Scene, parts: list[tuple[bool, tuple[str, Naive]]], data: st.DataObject) -> None:
    """`not` binds tightest, then `and`, then `or`, without any parentheses."""
    text, groups = "", [[]]  # type: ignore[var-annotated]
    for n, (negated, (part, naive)) in enumerate(parts):
        if n:
            word = data.draw(st.sampled_from(["and", "or"]))
            text += f" {word} "
            if word == "or":
                groups.append([])
        text += f"not {part}" if negated else part
        groups[-1].append(bool(naive(scene)) != negated)
    assert parse(text)(scene.moment) == any(all(group) for group in groups)


@settings(max_examples=60, deadline=None)
@given(scenes(), st.sampled_from(["flags", "anon_vma", "not_tried", "pgoff"]))
def test_lost_merges_of_a_reason(scene: Scene, code: str) -> None:
    """`lost_merges(REASON)` counts what `why` answers for each adjacent pair."""
    mm = scene.moment.mm
    expected = sum(v.vm_end == v.next.vm_start and why_apart(mm, v, v.next).code == code for v in mm.vmas())
    assert parse(f"lost_merges({code}) = {expected}")(scene.moment)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.sampled_from("map_count split_at errno has rw-p 0x1k()<>=!,+-\t\x00é"), max_size=40))
def test_any_text_is_a_predicate_or_an_input_error(text: str) -> None:
    """Nothing else is raised, and the column lies within the text."""
    try:
        parse(text)
    except InputError as error:
        column = int(error.message.rpartition(", column ")[2].partition(":")[0])
        assert 1 <= column <= len(text) + 1


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("", 1, "ends too early"),
        ("map_count >", 12, "ends too early"),
        ("map_count", 10, "ends too early"),
        ("map_count 5", 11, "comparison"),
        ("map_cuont > 5", 1, "'map_cuont'"),
        ("map_count > 5 5", 15, "unexpected '5'"),
        ("map_count > 12q", 13, "12q"),
        ("(map_count > 5", 15, "ends too early"),
        ("not", 4, "ends too early"),
        ("split_at here", 10, "not an address"),
        ("mapped 0x3000-0x1000", 14, "empty"),
        ("mapped 0x1ffffffffffffffff", 8, "64 bits"),
        ("perms 0x1000 rq-p", 14, "perms column"),
        ("flags 0x1000 nh", 14, "has"),
        ("flags 0x1000 has zz", 18, "VmFlags"),
        ("errno ENOTHING", 7, "ENOTHING"),
        ("errno > ENOMEM", 9, "="),
        ("bytes eaten > 5", 7, "bytes mapped"),
        ("lost_merges(colour) > 5", 13, "reason"),
        ("map_count > 5 and __import__('os')", 19, "__import__"),
        ("(" * 100 + "wx" + ")" * 100, 61, "within each other"),
        ("not " * 100 + "wx", 241, "within each other"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_errors_name_the_column(text: str, column: int, says: str) -> None:
    """A wrong predicate is one error that points at the place."""
    with pytest.raises(InputError) as caught:
        parse(text)
    assert f"column {column}:" in caught.value.message and says in caught.value.message
    assert caught.value.hint


def test_what_a_state_cannot_answer_is_known() -> None:
    """Predicates of the event are told from those of the state, wherever in the expression they stand."""
    assert parse("map_count > 5 and not (wx or errno ENOMEM)").of_event
    assert parse("splits").of_event and parse("1 < merges").of_event and parse("errno = 12").of_event
    assert not parse("map_count > 5 or lost_merges(flags) and seq > 3").of_event
    assert parse("seq > 3").restless and not parse("wx or perms 0x1000 rw-p").restless


def test_every_flag_has_a_name() -> None:
    """All letters that smaps may print are known to the language."""
    for _, letters in LETTERS:
        parse(f"flags 0x1000 has {letters}")
