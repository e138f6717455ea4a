"""`perf trace` text: each line rewritten as the line strace would print, and read as such.

perf trace leaves out arguments that are 0, prints flags without their prefix (and nothing where it has no
name for a value), shows names as pointers, and mostly not the flags of clone3. The path that it adds to a
descriptor is what /proc showed later, often another file: it is not taken. A line of its that strace has no
counterpart for (a page fault, a comment) is given on as text, which is a counted skip.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from vmastore.errors import InputError
from vmastore.events.types import Event, FileInfo, TraceHeader
from vmastore.importers.base import Skip
from vmastore.importers.jsonlines import stem
from vmastore.importers.sources import Source
from vmastore.importers.strace import StraceImporter
from vmastore.importers.strace.scan import split_list

_LINE = re.compile(
    rb" *(?:(?P<time>\d{1,12}\.\d{3})|\?) \( *(?P<duration>\d{1,9}\.\d{3})? *(?:ms)? *\):"
    rb" (?P<comm>.{0,64}?)/(?P<tid>\d{1,7})(?: \(\S+\))? +(?P<body>.*)\Z|"
    rb" *(?:(?P<time2>\d{1,12}\.\d{3})|\?) \( *(?P<duration2>\d{1,9}\.\d{3})? *(?:ms)? *\): (?P<body2>.*)\Z"
)
_CONTINUED = re.compile(rb"\.\.\. \[continued\]: (?P<name>\w{1,64})\(\)\)? *= ?(?P<result>.*)\Z")
_CALL = re.compile(rb"(?P<name>\w{1,64})\((?P<args>.*)\) += (?P<result>.*)\Z")
_BEGUN = re.compile(rb"(?P<name>\w{1,64})\((?P<args>.*)\) +\.\.\.\Z")
_RESULT = re.compile(rb"(?P<value>-?\d{1,20}|0x[0-9a-f]{1,16}|\?)(?:<.*>)?(?P<rest> .*)?\Z")
_ENDS = re.compile(rb"exit(?:_group)?\((?:error_code: ?(?P<status>-?\d{1,10}))?\) += \?\Z")
# a descriptor and what perf took it for later, a pid and the name of its process
_ADDED = re.compile(rb"(\d{1,10})(?:<.*>| \(.*\))\Z", re.DOTALL)
_ARGUMENT = re.compile(rb"(?P<name>[a-z_][a-z0-9_]*): ?(?P<value>.*)\Z", re.DOTALL)
_ZERO, _NULL, _MINUS = b"0", b"NULL", b"-1"

# the arguments of each call in the kernel's order: (perf's name, prefix of its flags, what is left out)
_Form = tuple[tuple[bytes, bytes, bytes], ...]


def _form(text: str) -> _Form:
    """``addr:NULL prot/PROT_`` → what `_FORMS` holds; a name alone is a number that is left out when it is 0."""
    found = []
    for part in text.split():
        name, _, prefix = part.partition("/")
        name, _, default = name.partition(":")
        found.append((name.encode(), prefix.encode(), (default or "0").encode()))
    return tuple(found)


_FORMS: dict[bytes, _Form] = {
    name.encode(): _form(text)
    for name, text in {
        "mmap": "addr:NULL len prot/PROT_ flags/MAP_ fd off",
        "munmap": "addr len",
        "mprotect": "start len prot/PROT_",
        "pkey_mprotect": "start len prot/PROT_ pkey",
        "mremap": "addr old_len new_len flags/MREMAP_ new_addr",
        "brk": "brk",
        "madvise": "start len_in behavior/MADV_",
        "process_madvise": "pidfd vec:NULL vlen behavior/MADV_ flags",
        "mlock": "start len",
        "mlock2": "start len flags",
        "munlock": "start len",
        "mlockall": "flags",
        "munlockall": "",
        "msync": "start len flags/MS_",
        "mincore": "start len vec:NULL",
        "mseal": "start len flags",
        "mbind": "start len mode nmask:NULL maxnode flags",
        "set_mempolicy": "mode nmask:NULL maxnode",
        "remap_file_pages": "start size prot pgoff flags",
        "shmget": "key size shmflg",
        "shmat": "shmid shmaddr:NULL shmflg",
        "shmdt": "shmaddr",
        "prctl": "option arg2 arg3 arg4 arg5",
        "personality": "personality",
        "userfaultfd": "flags/O_",
        "pkey_alloc": "flags init_val",
        "pkey_free": "pkey",
        "memfd_create": "uname:NULL flags",
        "open": "filename:NULL flags/O_ mode",
        "openat": "dfd/AT_FD filename:NULL flags/O_ mode",
        "creat": "pathname:NULL mode",
        "close": "fd",
        "close_range": "fd max_fd flags",
        "dup": "fildes",
        "dup2": "oldfd newfd",
        "dup3": "oldfd newfd flags/O_",
        "fcntl": "fd cmd/F_ arg",
        "execve": "filename:NULL argv:NULL envp:NULL",
    }.items()
}
_WORD = re.compile(rb"[A-Z][A-Z0-9_]*\Z")
# clone3 prints a pointer, and later releases the struct behind it: {.flags = (__u64)4001536,.exit_signal = ...
_CLONE3 = re.compile(rb"\.?\b(flags|exit_signal)\b ?[=:] ?(?:\(\w+\))?(0x[0-9a-f]{1,16}|\d{1,20})")


def is_perf_trace(lines: list[bytes]) -> bool:
    """Whether lines are of perf trace: most that are not empty have its frame."""
    shown = [line for line in lines if line.strip()]
    return bool(shown) and sum(_LINE.match(line) is not None for line in shown) * 2 > len(shown)


def to_strace(line: bytes, alone: bytes = b"0") -> bytes:
    """The line as strace would print it; what it has no counterpart for, unchanged.

    alone: the thread of lines that show none (perf trace of one thread).
    """
    match = _LINE.match(line.rstrip(b"\r\n"))
    if not match:
        return line
    body = match["body"] if match["body"] is not None else match["body2"]
    call = _call(body)
    if call is None:
        return line
    prefix = match["tid"] or alone
    time = match["time"] or match["time2"]
    if time is not None:
        # a call is printed with the time of its beginning; strace's clock of that size is its -r, which sums up
        prefix += b" " + _stamp(time, match["duration"] or match["duration2"] if b" = " in call else None)
    return prefix + b" " + call


def _stamp(time: bytes, duration: bytes | None) -> bytes:
    """When the line was complete, as -ttt prints it: seconds, of ten digits."""
    microseconds = int(time.replace(b".", b"")) + int((duration or b"0").replace(b".", b""))
    return b"%010d.%06d" % divmod(microseconds, 1_000_000)


def _call(body: bytes) -> bytes | None:
    continued = _CONTINUED.match(body)
    if continued:
        name = continued["name"]
        if name in _BEGINNINGS and continued["result"].strip() in (b"0", b""):
            return None  # a new thread's first return
        return b"<... %s resumed>) = %s" % (name, _result(continued["result"]))
    begun = _BEGUN.match(body)
    if begun:
        return b"%s(%s <unfinished ...>" % (begun["name"], _arguments(begun["name"], begun["args"]))
    end = _ENDS.match(body)
    if end:
        return b"+++ exited with %d +++" % (int(end["status"] or 0) & 0xFF)
    whole = _CALL.match(body)
    if whole:
        result = _result(whole["result"])
        return b"%s(%s) = %s" % (whole["name"], _arguments(whole["name"], whole["args"]), result)
    return None


_BEGINNINGS = frozenset({b"clone", b"clone3", b"fork", b"vfork"})


def _result(text: bytes) -> bytes:
    """Without what perf adds to it."""
    match = _RESULT.match(text.strip())
    if not match:
        return text
    rest = match["rest"] or b""
    if match["value"].startswith(b"-") or match["value"] == b"?":
        return match["value"] + rest
    return match["value"]


def _arguments(name: bytes, text: bytes) -> bytes:
    if name == b"clone3":
        return b"{%s}, 88" % b", ".join(b"%s=%s" % shown for shown in _CLONE3.findall(text))
    named, plain = {}, []
    for token in split_list(text) if text else []:
        argument = _ARGUMENT.match(token)
        value = _ADDED.sub(rb"\1", argument["value"] if argument else token)
        if argument:
            named[argument["name"]] = value
        plain.append(value)
    if name == b"clone":
        return b"flags=" + _flags(b"CLONE_", named.get(b"clone_flags", _ZERO))
    form = _FORMS.get(name)
    if form is None:
        return b", ".join(plain)
    return b", ".join(_argument(name, named, *part) for part in form)


def _argument(name: bytes, named: dict[bytes, bytes], argument: bytes, prefix: bytes, default: bytes) -> bytes:
    if argument not in named:
        anonymous = name == b"mmap" and argument == b"fd" and b"ANON" in named.get(b"flags", b"")
        return _MINUS if anonymous else default
    return _flags(prefix, named[argument]) if prefix else named[argument]


def _flags(prefix: bytes, text: bytes) -> bytes:
    parts = text.split(b"|")
    return b"|".join(prefix + part if _WORD.match(part) and not part.startswith(prefix) else part for part in parts)


class PerfTraceReader:
    """One output of perf trace, as a trace. Times are nanoseconds since its start (since boot with -T)."""

    def __init__(self, path: str | Path | Source, name: str | None = None) -> None:
        self._source = path if isinstance(path, Source) else Source(path)
        self.importer = StraceImporter(name=name or stem(self._source.path), source=self._source.name)

    @property
    def header(self) -> TraceHeader:
        """The trace's facts."""
        return self.importer.header._replace(format="perf")

    @property
    def files(self) -> list[FileInfo]:
        """The open file descriptions, by number - 1."""
        return self.importer.files

    def skips(self) -> list[Skip]:
        """What became no event."""
        return self.importer.skips()

    def events(self) -> Iterator[Event]:
        """All events, in order. Lines and offsets are the text's own."""
        importer, number, offset = self.importer, 0, 0
        began: set[bytes] = set()
        for batch in self._source.batches():
            if not number and not any(map(_LINE.match, batch)):
                raise InputError(
                    f"{self._source.name}: none of its first {len(batch)} lines is one of perf trace's",
                    hint="Record one with: perf trace -o FILE PROGRAM",
                )
            cut = self._source.cut and len(batch) == 1
            for line in batch:
                number += 1
                importer.account.lines += 1
                text = line if cut and not line.endswith(b")") else to_strace(line)
                importer.step(_first_exec(text, began), number, offset)
                offset += len(line) + 1
            yield from importer.take()
        yield from importer.finish()


def _first_exec(text: bytes, began: set[bytes]) -> bytes:
    """The end of an exec whose beginning perf trace did not see: the traced command itself."""
    tid, _, rest = text.partition(b" ")
    if rest.startswith(b"<... execve resumed>") and tid not in began:
        return tid + b" execve(NULL, NULL, NULL" + rest.removeprefix(b"<... execve resumed>")
    if len(began) < 10_000_000:
        began.add(tid)
    return text
