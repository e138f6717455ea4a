"""The fold: events in order, each to the address space it belongs to, with its outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from vmastore.events import CALLS, Event, FileInfo, ObservedVma, TraceHeader
from vmastore.mm.merge import Oops
from vmastore.mm.mm import Config, Env, Mm
from vmastore.mm.outcome import Decision, new
from vmastore.mm.rules import RuleSet
from vmastore.mm.vma import File
from vmastore.replay.baseline import Identity, load
from vmastore.replay.calls import HANDLERS
from vmastore.replay.inferred import NEEDS_RANGE, below_heap, prepare
from vmastore.replay.limits import Limits

_CONFIG_INTS: Final = ("max_map_count", "overcommit_memory", "mmap_min_addr", "stack_guard_gap")
_CONFIG_FLAGS: Final = ("anon_name", "userfaultfd", "ksm", "hugepage", "numa", "soft_dirty", "privileged")
_KNOW_FILE_SYSTEMS: Final = {"vmafuzz", "conform"}
# formats whose baselines are of new images: what was written before touches no call
_BASELINES_OF_NEW_IMAGES: Final = {"vmafuzz", "conform", "maprec", "vectors"}


class Outcome(NamedTuple):
    """What one event did: the decisions of the merge/split API, the result, how sure that is."""

    seq: int
    mm: int
    decisions: list[Decision]
    map_count: int
    result: int | None  # as replay predicts it; None when it failed
    errno: int
    divergence: str | None

    @property
    def certain(self) -> bool:
        """Whether no unknown of the trace could have made it otherwise."""
        return all(d.certain for d in self.decisions)

    @property
    def merges(self) -> int:
        return sum(d.action == "merge" for d in self.decisions)

    @property
    def splits(self) -> int:
        return sum(d.action == "split" for d in self.decisions)

    @property
    def cases(self) -> str:
        """The merge cases and splits in order, e.g. '4', '1', 'split+split'."""
        return "+".join(d.case if d.action == "merge" else "split" for d in self.decisions if d.action != "none")


def config_of(header: TraceHeader, max_map_count: int | None = None) -> Config:
    """The configuration that a trace's header tells; what it does not tell stays at its default."""
    config = Config()
    given = header.config
    for name in _CONFIG_INTS:
        if given.get(name) is not None:
            setattr(config, name, int(given[name]))
    for name in _CONFIG_FLAGS:
        if given.get(name) is not None:
            setattr(config, name, bool(given[name]))
    for name in ("thp", "shmem_thp"):
        if given.get(name):
            setattr(config, name, str(given[name]))
    if given.get("nodes"):
        config.nodes = int(given["nodes"])
    if given.get("cpus"):
        config.cpus = int(given["cpus"])
    config.rlimits = dict(given.get("rlimits") or {})
    if max_map_count is not None:
        config.max_map_count = max_map_count
    return config


Files = Mapping[int, FileInfo] | list[FileInfo] | Callable[[], list[FileInfo]]


class World:
    """All address spaces of a trace under one rule set.

    files: what the trace knows of its open file descriptions; a function where the list still grows.
    faults: `recorded` (as the events say; where the header says the trace shows none, a VMA that
    could have been written is unsure), `written`, `untouched`.
    """

    def __init__(
        self,
        header: TraceHeader,
        files: Files,
        rules: RuleSet,
        *,
        faults: str = "recorded",
        max_map_count: int | None = None,
    ) -> None:
        self.header = header
        self.rules = rules
        self.env = Env(rules, config_of(header, max_map_count))
        self.env.fs_known = header.format in _KNOW_FILE_SYSTEMS
        shown = header.faults == "recorded"
        self.env.faults = "recorded" if shown and faults == "recorded" else _policy(faults)
        self.infos = files
        self.files: dict[int, File] = {}
        self.images: dict[Identity, File] = {}
        self.mms: dict[int, Mm] = {}
        self.limits = Limits()
        self.begun: set[int] = set()  # address spaces whose exec the trace shows
        self.watch = False  # collect what changed in Mm.dirty
        self.oops = False

    def close(self) -> None:
        """Let all address spaces go, their VMAs at once (see Mm.close): for who looks at many worlds in turn."""
        for mm in self.mms.values():
            mm.close()
        self.mms.clear()

    def mm(self, number: int) -> Mm:
        """The address space of that number, made at first sight."""
        found = self.mms.get(number)
        if found is None:
            found = self.mms[number] = self._new_mm(number)
        return found

    def _new_mm(self, number: int) -> Mm:
        mm = Mm(self.env, number)
        mm.dirty = [] if self.watch else None
        mm.start_brk = int(self.header.config.get("start_brk") or 0)
        mm.brk = int(self.header.config.get("brk0") or mm.start_brk)
        return mm

    def adopt(self, mm: Mm) -> None:
        """Take a new address space (fork, exec) in."""
        mm.dirty = [] if self.watch else None
        self.mms[mm.number] = mm

    def file(self, number: int | None) -> File | None:
        """The open file description of that number of the trace."""
        if number is None:
            return None
        found = self.files.get(number)
        if found is None:
            found = self.files[number] = self.make_file(number)
        return found

    def make_file(self, number: int) -> File:
        """A new object for the open file description of that number, as the trace describes it."""
        infos = self.infos() if callable(self.infos) else self.infos
        info: FileInfo | None
        if isinstance(infos, list):
            info = infos[number - 1] if number <= len(infos) and infos[number - 1].file == number else None
            if info is None:
                info = next((i for i in infos if i.file == number), None)
        else:
            info = infos.get(number)
        if info is None:
            return File(number, "unknown")
        return File(
            number,
            info.kind,
            info.path,
            dev=info.dev,
            inode=info.inode,
            readable=info.readable,
            writable=info.writable,
            size=info.size,
            flags=info.flags,
        )

    def apply(self, event: Event) -> Outcome:
        """Fold one event in. Never raises for what a trace may hold."""
        row: Any = event  # compiled, what is Any only passes through: it is not unboxed and boxed again
        fields: tuple[Any, ...] = row[:11]  # at once: a slice is a plain tuple
        seq, number, _, _, _, call, _, result, errno, _, injected = fields
        mm = self.mms.get(number)
        if mm is None:
            mm = self.mm(number)
        handler = HANDLERS.get(call)
        if handler is None or injected:
            return new(Outcome, (seq, number, [], mm.map_count, result, errno, None))
        mm.expect_result = result
        mm.expect_errno = errno
        if errno or result is None:
            mm.observed = errno != 0
        else:
            mm.observed = True
            if not (mm.complete and self.env.faults == "recorded") and call in NEEDS_RANGE:
                prepare(mm, event)
        try:
            got = handler(self, mm, event)
        except Oops as error:
            self.oops = True
            decisions, mm.decisions = mm.decisions, []
            return Outcome(seq, number, decisions, mm.map_count, None, 0, f"oops: {error}")
        decisions = mm.decisions
        mm.decisions = []
        if decisions and not mm.complete and mm.start_brk and not mm.imaged:
            decisions = below_heap(mm, decisions)
        if got is None or (got == result and not errno and got >= 0):
            return new(Outcome, (seq, number, decisions, mm.map_count, result, errno, None))
        return _unlike(event, mm, decisions, got)

    def load(self, number: int, lines: list[ObservedVma]) -> Mm:
        """Make the address space what was observed (a baseline)."""
        mm = self.mm(number)
        known = [f for f in self.files.values() if f.path is not None]
        new_image = number in self.begun and not mm.map_count
        attached = not new_image and self.header.format not in _BASELINES_OF_NEW_IMAGES
        load(mm, lines, self.images, known, attached=attached)
        return mm


def _unlike(event: Event, mm: Mm, decisions: list[Decision], got: int) -> Outcome:
    """The outcome of a call that failed, or whose answer the trace does not show or shows otherwise."""
    errno = -got if -4096 < got < 0 else 0
    result = None if errno else got
    divergence = None
    known = event.result is not None or event.errno != 0
    if known and (errno != event.errno or (not errno and result != event.result)):
        divergence = f"replay: {answer(result, errno)}, kernel: {answer(event.result, event.errno)}"
    return Outcome(event.seq, event.mm, decisions, mm.map_count, result, errno, divergence)


def _policy(faults: str) -> str:
    return {"recorded": "none"}.get(faults, faults)


def answer(result: int | None, errno: int) -> str:
    """A result as strace prints it: 0, 0x7f…, -1 ENOMEM."""
    if errno:
        return f"-1 {ERRNO_NAMES.get(errno, str(errno))}"
    if result is None:
        return "?"
    return hex(result) if result > 0xFFFF else str(result)


def _errno_names() -> dict[int, str]:
    import errno as codes

    return dict(codes.errorcode)


ERRNO_NAMES: Final = _errno_names()


def named_args(event: Event) -> dict[str, Any]:
    """An event's arguments by name."""
    names = CALLS.get(event.call, ())
    return {(names[n] if n < len(names) else f"arg{n}"): value for n, value in enumerate(event.args)}


Handler = Callable[["World", Mm, Event], int | None]
