"""The mappings that exec makes, which no system call shows: from the ELF headers of the programs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from vmastore.errors import InputError
from vmastore.events.types import Event, ObservedVma
from vmastore.importers.beside import EXECS
from vmastore.importers.elf_image import Image, read_image
from vmastore.importers.elf_proof import Proof
from vmastore.importers.strace.folders import Folders, places

FOUND = "found"  # --exec found: every program that is at its path here
_WITHIN = 5_000  # events after an exec: a program whose loader is not done by then is not placed
_PROT_READ = 1
_MAPS = frozenset({"mmap", "mmap2"})
# where the kernel puts a position-independent program that has an interpreter, with room for the random part
_PIE = range(0x5500_0000_0000, 0x5700_0000_0000)


class _Program:
    """A file that may be what an exec ran. proof: tells whether it is; None: it was named."""

    def __init__(self, path: object, image: Image, loader: Image | None, proof: Proof | None) -> None:
        self._path = _shown_path(path, image.path)
        self.image = image
        self.loader = loader
        self.proof = proof
        self.base: int | None = 0 if image.fixed and proof is None else None
        self.loader_base: int | None = None
        self.settled = self._settled()
        self._mapped: list[tuple[int, int]] = []

    def see(self, event: Event) -> None:
        """Learn from an event of the program's address space."""
        if event.errno or event.injected:
            return
        if self.proof is not None:
            self.proof.see(event)
        if event.call in _MAPS and event.result is not None:
            self._mapped.append((event.result, event.result + event.args[1]))
        elif event.call == "mprotect" and event.args[2] == _PROT_READ:
            self._relro(event.args[0], event.args[1])
        self.settled = self._settled()

    def _settled(self) -> bool:
        """Whether nothing more is to be learnt: both files are placed, or the program never can be."""
        if self.base is None:
            return self.image.relro is None and self.proof is not None
        return self.loader is None or self.loader_base is not None

    def _relro(self, addr: int, length: int) -> None:
        if any(start <= addr < end for start, end in self._mapped):
            return  # of a library that a call has mapped
        if addr in _PIE or self.loader is None or (self.image.fixed and addr < _PIE.start):
            if self.base is None:
                self.base = self.image.base(addr, length)
        elif self.loader_base is None:
            self.loader_base = self.loader.base(addr, length)

    def refuted(self) -> str | None:
        """Why the file that is here is not what ran."""
        if self.proof is None or self.base is None:
            return None
        return self.proof.against(self.image, self.base, self.loader)

    def lines(self) -> list[ObservedVma]:
        """What is known to have been mapped at the program's start."""
        found = [] if self.base is None else self.image.lines(self.base, self._path)
        if self.loader is not None and self.loader_base is not None:
            found += self.loader.lines(self.loader_base, str(Path(self.loader.path).resolve()))
        return sorted(found)

    def unplaced(self) -> list[str]:
        """The files of which the log does not show where they were mapped."""
        found = [] if self.base is not None else [self.image.path]
        return found if self.loader is None or self.loader_base is not None else [*found, self.loader.path]


class _Exec:
    """One exec whose image is to be placed.

    programs: what it may have run; None: to be looked for when the loader is at work, as the calls up to there may
    show the folder that a relative path begins at.
    """

    def __init__(self, event: Event, programs: list[_Program] | None, deadline: int) -> None:
        self.event = event
        self.programs = programs
        self.deadline = deadline  # the count of events at which it is waited for no longer
        self.over = False  # it ended, or ran something else
        self._seen: list[Event] = []

    def see(self, event: Event) -> None:
        """Learn from an event of the program's address space."""
        if self.programs is None:
            self._seen.append(event)
        for program in self.programs or ():
            program.see(event)

    def begin(self, programs: list[_Program]) -> None:
        """These may be what ran."""
        self.programs = programs
        for event in self._seen:
            for program in programs:
                program.see(event)
        self._seen.clear()

    @property
    def settled(self) -> bool:
        """Whether nothing more is to be learnt of it."""
        return self.over or (self.programs is not None and all(program.settled for program in self.programs))


class Images:
    """The stage that follows each exec with a `maps` event of kind "image".

    programs: paths of executables, each for execs of a file of that name (one path alone: for the log's first
    exec too), and FOUND: every program that is at its path here, unless the log shows that it is another one
    (`Proof`). What the log does not show the place of (by its loader's mprotect) is left out and counted.
    quiet: nothing is said of programs that are not here, or not placed. folders: those that the log shows, asked for
    where a path is relative; logs: its files, beside which a program may lie whose folder the log does not show.
    """

    def __init__(
        self,
        programs: Sequence[str],
        *,
        quiet: bool = False,
        folders: Callable[[], Folders] | None = None,
        logs: Sequence[str] = (),
    ) -> None:
        self._quiet = quiet
        self._folders = folders
        self._logs = list(logs)
        self._found = FOUND in programs
        named = [path for path in programs if path != FOUND]
        self._named = {PurePosixPath(path).name: read_image(path) for path in named}
        self._first = next(iter(self._named.values())) if len(self._named) == 1 else None
        self._read: dict[str, Image | None] = {}  # by path
        self._running: dict[int, tuple[Image, object, bool]] = {}  # by mm: image, its path in the log, whether named
        self._waiting: dict[int, _Exec] = {}  # by mm
        self._held: deque[Event | _Exec] = deque()
        self._count = 0
        self._unplaced: dict[str, None] = {}
        self._absent: dict[str, None] = {}
        self._others: dict[str, None] = {}  # programs here that are not those that ran, and why
        self._guessed: dict[str, None] = {}  # relative paths of which the log does not show the folder
        self._either: dict[str, None] = {}  # relative paths of which two programs are borne out

    @property
    def note(self) -> str | None:
        """Which programs' images are not known."""
        notes = []
        if self._unplaced and not self._quiet:
            notes.append(f"the log does not show where these were mapped: {_some(self._unplaced)}")
        if self._others:
            notes.append(f"not the program that ran, by the log: {_some(self._others)}")
        if self._guessed:
            notes.append(f"the log does not show the folder of these, but bears them out: {_some(self._guessed)}")
        if self._either:
            notes.append(f"several programs may be the one that ran, none is taken: {_some(self._either)}")
        if self._absent and not self._quiet:
            notes.append(f"no such executable here: {_some(self._absent)}")
        return "; ".join(notes) or None

    def events(self, stream: Iterator[Event]) -> Iterator[Event]:
        """The events, at most `_WITHIN` of them late."""
        for event in stream:
            yield from self.step(event)
        yield from self.rest()

    @property
    def holding(self) -> bool:
        """Whether events are held back."""
        return bool(self._held)

    def step(self, event: Event) -> Iterator[Event]:
        """What can be passed on, the next event seen."""
        self._count += 1
        if self._waiting:
            self._look(event)
        self._held.append(event)
        if event.call in EXECS and not event.errno and isinstance(event.args[2], int):
            self._begin(event)
        return self._release()

    def rest(self) -> Iterator[Event]:
        """What is left when all events have been seen."""
        for waiting in self._waiting.values():
            waiting.over = True
        return self._release()

    def _begin(self, event: Event) -> None:
        (image, named), path, mm = self._image_of(event), event.args[0], event.args[2]
        programs: list[_Program] | None = None
        if image is None and path in ("/proc/self/exe", f"/proc/{event.pid}/exe"):
            image, path, named = self._runs(event.mm)
        if image is not None:
            self._running[mm] = image, path, named
            programs = [self._program(event, path, image, named=named)]
        elif not self._found or self._folders is None or not isinstance(path, str) or path.startswith("/"):
            return
        self._waiting[mm] = waiting = _Exec(event, programs, self._count + _WITHIN)
        self._held.append(waiting)

    def _runs(self, mm: int) -> tuple[Image | None, object, bool]:
        """What an address space runs."""
        if mm in self._waiting:
            self._choose(self._waiting[mm])
        return self._running.get(mm, (None, None, False))

    def _program(
        self, event: Event, path: object, image: Image, *, named: bool = False, guessed: bool = False
    ) -> _Program:
        proof = None if named else Proof(event, image.path, guessed=guessed)
        return _Program(path, image, self._loader(image), proof)

    def _look(self, event: Event) -> None:
        waiting = self._waiting.get(event.mm)
        if waiting is None:
            return
        waiting.see(event)
        waiting.over |= (event.call in EXECS and not event.errno) or (event.call == "exit" and bool(event.args[2]))
        if waiting.programs is None and (waiting.over or event.call == "mprotect"):
            waiting.begin(self._relative(waiting.event))

    def _relative(self, event: Event) -> list[_Program]:
        """The files here that a relative path may name."""
        assert self._folders is not None
        path, folder = event.args[0], self._folders().at_exec.get(event.args[2])
        found = [(place, self._at(place)) for place in places(folder, path, self._logs)]
        if not found:
            self._absent[path] = None
        return [self._program(event, place, image, guessed=folder is None) for place, image in found if image]

    def _release(self) -> Iterator[Event]:
        """What is held back up to the first program that is still to be placed."""
        held = self._held
        while held:
            first = held[0]
            if isinstance(first, _Exec):
                if not first.settled and self._count < first.deadline:
                    return
                held.popleft()
                del self._waiting[first.event.args[2]]
                yield from self._image(first)
            else:
                held.popleft()
                yield first

    def _choose(self, waiting: _Exec) -> _Program | None:
        """The one program that the log bears out, or that was named."""
        if waiting.programs is None:
            waiting.begin(self._relative(waiting.event))
        good, path = [], waiting.event.args[0]
        for program in waiting.programs or ():
            against = program.refuted()
            if against is not None:
                self._others[f"{program.image.path} ({against})"] = None
                continue
            self._unplaced.update(dict.fromkeys(program.unplaced()))
            if (
                program.proof is None or program.base is not None
            ):  # else nothing in the log says that it is the file here
                good.append(program)
        if len(good) != 1:
            self._either.update(
                dict.fromkeys([f"{path} ({good[0].image.path}, {good[1].image.path})"] if good else [])
            )
            return None
        if good[0].proof is not None and good[0].proof.guessed:
            self._guessed[good[0].image.path] = None
        self._running.setdefault(waiting.event.args[2], (good[0].image, good[0].image.path, good[0].proof is None))
        return good[0]

    def _image(self, waiting: _Exec) -> Iterator[Event]:
        program, event = self._choose(waiting), waiting.event
        lines = [] if program is None else program.lines()
        if lines:
            args = ("image", len(lines), None, [list(line) for line in lines])
            yield Event(0, event.args[2], event.pid, event.tid, event.ts_ns, "maps", args, 0, 0)

    # -- the files

    def _image_of(self, event: Event) -> tuple[Image | None, bool]:
        """The image of the program that an exec runs, if it is known; whether it was named."""
        first, self._first = self._first, None
        path = event.args[0] if isinstance(event.args[0], str) else ""
        named = self._named.get(PurePosixPath(path).name, first)
        if named is not None or not self._found:
            return named, True
        return self._at(path), False

    def _loader(self, image: Image) -> Image | None:
        return None if image.interpreter is None else self._at(image.interpreter)

    def _at(self, path: str) -> Image | None:
        if path not in self._read:
            try:
                self._read[path] = read_image(path) if _readable(path) else None
            except InputError:
                self._read[path] = None
            if self._read[path] is None:
                self._absent[path] = None
        return self._read[path]


def _readable(path: str) -> bool:
    """Whether a path of the log is one to look at here: /proc/self/exe is another here, a FIFO would block."""
    return path.startswith("/") and not path.startswith("/proc/") and Path(path).is_file()


def _shown_path(asked: object, here: str) -> str:
    """The program's path as maps shows it: what the log says, without symbolic links where they can be followed."""
    if (
        not isinstance(asked, str)
        or not asked.startswith("/")
        or PurePosixPath(asked).name != PurePosixPath(here).name
    ):
        return str(Path(here).resolve())  # a relative path, the interpreter of a script, a program kept elsewhere
    same = Path(asked).exists() and Path(asked).samefile(here)
    return str(Path(asked).resolve()) if same else asked


def _some(names: dict[str, None]) -> str:
    shown = list(names)
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")
