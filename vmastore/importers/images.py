"""The mappings that exec makes, which no system call shows: from the ELF headers of the programs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from vmastore.errors import InputError
from vmastore.events.types import Event, ObservedVma
from vmastore.importers.beside import EXECS
from vmastore.importers.elf_image import Image, read_image
from vmastore.importers.elf_proof import Proof

FOUND = "found"  # --exec found: every program that is at its path here
_WITHIN = 5_000  # events after an exec: a program whose loader is not done by then is not placed
_PROT_READ = 1
_MAPS = frozenset({"mmap", "mmap2"})
# where the kernel puts a position-independent program that has an interpreter, with room for the random part
_PIE = range(0x5500_0000_0000, 0x5700_0000_0000)


class _Program:
    """One exec whose image is to be placed. proof: tells whether the file here is what ran; None: it was named."""

    def __init__(
        self, event: Event, path: object, image: Image, loader: Image | None, proof: Proof | None, deadline: int
    ) -> None:
        self.event = event
        self._path = _shown_path(path, image.path)
        self.image = image
        self.loader = loader
        self.proof = proof
        self.base: int | None = 0 if image.fixed and proof is None else None
        self.loader_base: int | None = None
        self.deadline = deadline  # the count of events at which it is waited for no longer
        self.settled = False
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
        self.settled = self.base is not None and (self.loader is None or self.loader_base is not None)

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


class Images:
    """The stage that follows each exec with a `maps` event of kind "image".

    programs: paths of executables, each for execs of a file of that name (one path alone: for the log's first
    exec too), and FOUND: every program that is at its path here, unless the log shows that it is another one
    (`Proof`). What the log does not show the place of (by its loader's mprotect) is left out and counted.
    quiet: nothing is said of programs that are not here, or not placed.
    """

    def __init__(self, programs: Sequence[str], *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._found = FOUND in programs
        named = [path for path in programs if path != FOUND]
        self._named = {PurePosixPath(path).name: read_image(path) for path in named}
        self._first = next(iter(self._named.values())) if len(self._named) == 1 else None
        self._read: dict[str, Image | None] = {}  # by path
        self._running: dict[int, tuple[Image, object, bool]] = {}  # by mm: image, its path in the log, whether named
        self._waiting: dict[int, _Program] = {}  # by mm
        self._held: deque[Event | _Program] = deque()
        self._count = 0
        self._unplaced: dict[str, None] = {}
        self._absent: dict[str, None] = {}
        self._others: dict[str, None] = {}  # programs here that are not those that ran, and why

    @property
    def note(self) -> str | None:
        """Which programs' images are not known."""
        notes = []
        if self._unplaced and not self._quiet:
            notes.append(f"the log does not show where these were mapped: {_some(self._unplaced)}")
        if self._others:
            notes.append(f"not the program that ran, by the log: {_some(self._others)}")
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
        for program in self._waiting.values():
            program.settled = True
        return self._release()

    def _begin(self, event: Event) -> None:
        (image, named), path = self._image_of(event), event.args[0]
        if image is None and path in ("/proc/self/exe", f"/proc/{event.pid}/exe") and event.mm in self._running:
            image, path, named = self._running[event.mm]
        if image is not None:
            self._running[event.args[2]] = image, path, named
            proof = None if named else Proof(event, image.path)
            program = _Program(event, path, image, self._loader(image), proof, self._count + _WITHIN)
            self._waiting[event.args[2]] = program
            self._held.append(program)

    def _look(self, event: Event) -> None:
        program = self._waiting.get(event.mm)
        if program is None:
            return
        program.see(event)
        if (event.call in EXECS and not event.errno) or (event.call == "exit" and event.args[2]):
            program.settled = True

    def _release(self) -> Iterator[Event]:
        """What is held back up to the first program that is still to be placed."""
        held = self._held
        while held:
            first = held[0]
            if isinstance(first, _Program):
                if not first.settled and self._count < first.deadline:
                    return
                held.popleft()
                del self._waiting[first.event.args[2]]
                yield from self._image(first)
            else:
                held.popleft()
                yield first

    def _image(self, program: _Program) -> Iterator[Event]:
        against = program.refuted()
        if against is not None:
            self._others[f"{program.image.path} ({against})"] = None
            return
        self._unplaced.update(dict.fromkeys(program.unplaced()))
        if program.proof is not None and program.base is None:
            return  # nothing in the log says that it is the file here
        lines, event = program.lines(), program.event
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
