"""Events, files and headers as the JSON objects of vmastore's trace files (docs/trace-format.md).

Encoding leaves out what has its default value. Decoding checks every value that replay depends on and
raises ValueError with a sentence for what does not fit, so that a reader can name the line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vmastore.events.types import CALLS, Arg, Event, FileInfo, ObservedVma, TraceHeader

FORMAT = 1  # the version that is written

Json = dict[str, Any]
Upcaster = Callable[[Json], Json]

# UPCASTERS[n] turns an object of version n into one of version n + 1. Pure: no clock, no globals.
UPCASTERS: dict[int, Upcaster] = {}


def upcast(data: Json, version: int, table: Mapping[int, Upcaster] | None = None, current: int = FORMAT) -> Json:
    """An object of an older version as the current one has it, one step at a time."""
    steps = UPCASTERS if table is None else table
    for number in range(version, current):
        data = steps[number](data)
    return data


# -- encoding


def header_json(header: TraceHeader) -> Json:
    """The first line of a file."""
    return {"vmatrace": FORMAT, **header._asdict()}


def file_json(info: FileInfo) -> Json:
    """The line of one open file description."""
    facts = info._asdict()
    number = facts.pop("file")
    return {"open_file": number, **{key: value for key, value in facts.items() if value is not None}}


def event_json(event: Event) -> Json:
    """The line of one event, its arguments by name."""
    names = CALLS.get(event.call, ())
    known = len(names)
    data: Json = {"seq": event.seq, "mm": event.mm, "pid": event.pid, "tid": event.tid, "call": event.call}
    data["args"] = {(names[n] if n < known else f"arg{n}"): value for n, value in enumerate(event.args)}
    if event.result is not None:
        data["result"] = event.result
    if event.errno:
        data["errno"] = event.errno
    if event.injected:
        data["injected"] = True
    for key in _OPTIONAL:
        value = getattr(event, key)
        if value is not None:
            data[key] = value
    return data


_OPTIONAL = ("file", "ts_ns", "site", "source_line", "source_offset")

# -- decoding


def header_from_json(data: Json) -> TraceHeader:
    """The header of a file; raises ValueError."""
    fields = _fields(data, "vmatrace", TraceHeader._fields)
    _require(fields, ("name", "source", "format"), str)
    _allow(fields, ("release", "version", "note"), str)
    if fields.get("faults", "none") not in ("none", "recorded", "partial"):
        raise ValueError(f"faults is {fields['faults']!r}, not none, recorded or partial")
    if not isinstance(fields.get("config", {}), dict):
        raise ValueError("config is not an object")
    return TraceHeader(**fields)


def file_from_json(data: Json) -> FileInfo:
    """An open file description; raises ValueError."""
    fields = _fields(data, "open_file", FileInfo._fields[1:])
    number = data["open_file"]
    if type(number) is not int or number < 1:
        raise ValueError(f"open_file is {number!r}, not a number from 1")
    fields.setdefault("path", None)
    _require(fields, ("kind",), str)
    _allow(fields, ("path", "dev", "origin"), str)
    _allow(fields, ("inode", "size", "flags"), int)
    _allow(fields, ("readable", "writable"), bool)
    return FileInfo(number, **fields)


def event_from_json(data: Json) -> Event:
    """An event; raises ValueError."""
    if not data.keys() <= _EVENT_KEYS:
        raise ValueError(f"unknown key {min(data.keys() - _EVENT_KEYS)!r}")
    get = data.get
    event = Event(
        get("seq", 0),
        get("mm", -1),
        get("pid", -1),
        get("tid", -1),
        get("ts_ns"),
        get("call", ""),
        (),
        get("result"),
        get("errno", 0),
        get("file"),
        get("injected", False),
        get("site"),
        get("source_line"),
        get("source_offset"),
    )
    for value, (name, allowed) in zip(event, _EVENT_TYPES, strict=True):
        if type(value) not in allowed:
            raise ValueError(f"{name} is {value!r}, not {_NOUNS[allowed[0]]}")
    if event.seq < 1 or min(event.mm, event.pid, event.tid) < 0 or not event.call:
        raise ValueError("an event has a seq from 1, mm, pid and tid from 0, and a call")
    if not 0 <= event.errno < 4096:
        raise ValueError(f"errno is {event.errno}, not a number below 4096")
    return event._replace(args=_args(event.call, get("args", {})))


def _fields(data: Json, tag: str | None, names: tuple[str, ...]) -> Json:
    unknown = data.keys() - set(names) - {tag}
    if unknown:
        raise ValueError(f"unknown key {min(unknown)!r}")
    return {key: value for key, value in data.items() if key != tag}


def _require(fields: Json, names: tuple[str, ...], kind: type) -> None:
    for name in names:
        if type(fields.get(name)) is not kind:
            raise ValueError(f"{name} is {fields.get(name)!r}, not {_NOUNS[kind]}")


def _allow(fields: Json, names: tuple[str, ...], kind: type) -> None:
    for name in names:
        if fields.get(name) is not None and type(fields[name]) is not kind:
            raise ValueError(f"{name} is {fields[name]!r}, not {_NOUNS[kind]}")


_NONE = type(None)
_NOUNS: dict[type, str] = {int: "a number", str: "a string", bool: "true or false", tuple: "a list"}
_EVENT_KEYS = frozenset(Event._fields)
_EVENT_TYPES: tuple[tuple[str, tuple[type, ...]], ...] = (
    *((name, (int,)) for name in ("seq", "mm", "pid", "tid")),
    ("ts_ns", (int, _NONE)),
    ("call", (str,)),
    ("args", (tuple,)),
    ("result", (int, _NONE)),
    ("errno", (int,)),
    ("file", (int, _NONE)),
    ("injected", (bool,)),
    ("site", (str, _NONE)),
    ("source_line", (int, _NONE)),
    ("source_offset", (int, _NONE)),
)


def _args(call: str, given: Any) -> tuple[Arg, ...]:
    """Arguments by name, in the call's order; those left out in the middle are null."""
    if not isinstance(given, dict):
        raise ValueError("args is not an object")
    if tuple(given) == CALLS.get(call):  # as exported
        exported = tuple(given.values())
        if call not in _INTS or {*map(type, exported)} != _ONLY_INT:
            _check_args(call, exported)
        return exported
    names = list(CALLS.get(call, ()))
    if len(given) > len(names) or call not in CALLS:
        names += [f"arg{n}" for n in range(len(names), len(given))]
    unknown = given.keys() - set(names)
    if unknown:
        raise ValueError(f"{call} has no argument {min(unknown)!r}")
    last = max((n for n, name in enumerate(names) if name in given), default=-1)
    args = tuple(given.get(name) for name in names[: last + 1])
    _check_args(call, args)
    return args


# What replay computes with. i: a number, n: a number or null, s: a string, t: a string or null,
# p: null or pairs of numbers, .: anything
_SHAPES = {
    "mmap": "iiiiii",
    "mmap2": "iiiiii",
    "munmap": "ii",
    "mprotect": "iii",
    "pkey_mprotect": "iiii",
    "mremap": "iiiin",
    "brk": "i",
    "madvise": "iii",
    "process_madvise": "ipiii",
    "mlock": "ii",
    "mlock2": "iii",
    "munlock": "ii",
    "mlockall": "i",
    "munlockall": "",
    "mbind": "iiinii",
    "set_mempolicy": "ini",
    "set_mempolicy_home_node": "iiii",
    "prctl": ".....t",
    "ioctl": "i.nnnn",
    "remap_file_pages": "iiiii",
    "shmat": "inin",
    "shmdt": "i",
    "mseal": "iii",
    "personality": "i",
    "fork": "nn",
    "vfork": "nn",
    "clone": "nn",
    "clone3": "nn",
    "execve": "..n",
    "execveat": "..n",
    "exit": "nnn",
    "fault": "iistt",
    "stack_grow": "i",
    "maps": "si..",
}


_INTS = frozenset(call for call, shape in _SHAPES.items() if set(shape) == {"i"})
_ONLY_INT = {int}


def _check_args(call: str, args: tuple[Arg, ...]) -> None:
    shape = _SHAPES.get(call, "")
    if len(args) < len(shape):
        missing = CALLS[call][len(args) : len(shape)]
        raise ValueError(f"{call} lacks its argument {missing[0]!r}")
    for kind, name, value in zip(shape, CALLS.get(call, ()), args, strict=False):
        if not _KINDS[kind](value):
            raise ValueError(f"{call}: {name} is {value!r}")
    if call == "maps":
        _check_maps(args)


def _is_pairs(value: Any) -> bool:
    return value is None or (
        isinstance(value, list)
        and all(isinstance(pair, list) and len(pair) == 2 and all(type(n) is int for n in pair) for pair in value)
    )


_KINDS: dict[str, Callable[[Any], bool]] = {
    "i": lambda value: type(value) is int,
    "n": lambda value: value is None or type(value) is int,
    "s": lambda value: isinstance(value, str),
    "t": lambda value: value is None or isinstance(value, str),
    "p": _is_pairs,
    ".": lambda value: True,
}

# of ObservedVma: start, end, perms, offset, dev, inode, name, vm_flags, written
_LINE = (int, int, str, int, str, int, str, str, bool)
_PERMS = (frozenset("r-"), frozenset("w-"), frozenset("x-"), frozenset("sp"))


def _check_maps(args: tuple[Arg, ...]) -> None:
    removed, added = args[2], args[3]
    if removed is not None and not (isinstance(removed, list) and all(type(n) is int for n in removed)):
        raise ValueError("maps: removed is not null or a list of addresses")
    if not isinstance(added, list):
        raise ValueError("maps: added is not a list")
    for line in added:
        if not (isinstance(line, list) and 7 <= len(line) <= 9 and _is_line(line)):
            raise ValueError(f"maps: not a VMA: {line!r}")
        line.extend([None] * (len(ObservedVma._fields) - len(line)))


def _is_line(line: list[Any]) -> bool:
    for position, (kind, value) in enumerate(zip(_LINE, line, strict=False)):
        if type(value) is not kind and not (position >= 7 and value is None):
            return False
    perms = line[2]
    return line[0] < line[1] and len(perms) == 4 and all(c in ok for c, ok in zip(perms, _PERMS, strict=True))
