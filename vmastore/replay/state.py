"""The state of all address spaces of a replay as bytes, and back: what a snapshot holds.

The bytes are canonical: two worlds that go on alike from here have the same ones. Everything that
decides what later events do is in them, identities too (which VMAs share an open file description,
an anon_vma, a userfaultfd context); what is only a cache or a list of changes is not.

Form: 4 bytes with the length of the head, the head (JSON), then columns of integers, one after another as the head
lists them: the lowest byte of each integer, the next of each, and so on, since like bytes side by side pack well.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from struct import calcsize, pack, unpack
from struct import error as StructError
from typing import Any, Final, Generic, TypeVar

from vmastore.mm.guards import Guards
from vmastore.mm.mm import Config, Env, Mm
from vmastore.mm.vma import AnonVma, BaseAnon, File, Mempolicy, UffdCtx, VmaAttrs
from vmastore.replay.columns import OWN, Chain, columns_of, vmas_of
from vmastore.replay.world import World, config_of

FORMAT: Final = 5
# what of an Mm is rebuilt from its VMAs, a cache, or handed over between two steps
MM_STRUCTURE: Final = frozenset(
    (
        "config",
        "decisions",
        "dirty",
        "env",
        "guards",
        "head",
        "index",
        "map_count",
        "pmds",
        "rules",
        "tail",
        "vmi",
    )
)
_MM_NAMES: Final[tuple[str, ...]] = getattr(Mm, "__slots__", None) or Mm.__mypyc_attrs__  # type: ignore[attr-defined]
MM_VALUES: Final = tuple(sorted(set(_MM_NAMES) - MM_STRUCTURE))
FILE_VALUES: Final = ("file", "kind", "path", "dev", "inode", "readable", "writable", "size", "flags")

_T = TypeVar("_T")


class _Numbers(Generic[_T]):
    """Numbers things in the order in which they are first seen, from `first` on."""

    def __init__(self, first: int = 0) -> None:
        self.first = first
        self.known: dict[_T, int] = {}

    def of(self, thing: _T) -> int:
        """The number of a thing, which gets one if it has none."""
        found = self.known.get(thing)
        if found is None:
            found = self.known[thing] = self.first + len(self.known)
        return found

    def of_all(self, things: Sequence[_T | None]) -> list[int]:
        """The number of each of many, 0 for None, if there are any."""
        known: dict[Any, int] = self.known
        for thing in dict.fromkeys(things):
            if thing not in known and thing is not None:
                known[thing] = self.first + len(known)
        known[None] = 0
        found = list(map(known.__getitem__, things))
        del known[None]
        return found


class _Columns:
    """Columns of unsigned integers, each as narrow as its largest allows."""

    def __init__(self) -> None:
        self.spec: list[tuple[str, int]] = []
        self.parts: list[bytes] = []

    def add(self, values: list[int]) -> None:
        try:
            code, part = "B", bytes(values)  # as most columns are
        except ValueError:
            code, part = _wide(values)
        self.spec.append((code, len(values)))
        self.parts.append(part)


def _wide(values: list[int]) -> tuple[str, bytes]:
    """A column of numbers some of which need more than 8 bits: the lowest byte of each, then the next of each, …"""
    for code in ("H", "I"):
        with suppress(StructError):
            return code, _planes(pack(f"<{len(values)}{code}", *values), calcsize(code))
    return "Q", _planes(pack(f"<{len(values)}Q", *values), 8)


def _planes(raw: bytes, size: int) -> bytes:
    return b"".join([raw[n::size] for n in range(size)])


class _Seen:
    """What the VMAs of all address spaces refer to, numbered."""

    def __init__(self) -> None:
        self.attrs: _Numbers[VmaAttrs] = _Numbers()
        self.anons: _Numbers[AnonVma] = _Numbers(1)
        self.chains: _Numbers[Chain] = _Numbers(2)
        self.bases: _Numbers[BaseAnon] = _Numbers()
        self.files: _Numbers[File] = _Numbers(1)
        self.policies: _Numbers[Mempolicy] = _Numbers(1)
        self.uffds: _Numbers[UffdCtx] = _Numbers(1)


def encode(world: World) -> bytes:
    """The state of `world` after the last event applied."""
    seen = _Seen()
    columns = _Columns()
    spaces = [_encode_mm(mm, seen, columns) for mm in world.mms.values()]
    _encode_attrs(seen, columns)
    anons, uffds = seen.anons, seen.uffds
    chain_rows = [[anons.of(a) for a in c] for c in seen.chains.known]
    parents = [0 if anon.parent is anon else anons.of(anon.parent) for anon in _closure(anons)]
    columns.add(parents)
    forked = [uffds.of(ctx) for ctx in world.env.forked_uffds]
    for ctx in world.env.uffds.values():
        uffds.of(ctx)
    head = {
        "format": FORMAT,
        "mms": spaces,
        "chains": chain_rows,
        "policies": [list(p) for p in seen.policies.known],
        "uffds": [[c.file, c.features, c.mm, c.released] for c in uffds.known],
        "uffds_forked": forked,
        "uffd_of": [[file, uffds.of(ctx)] for file, ctx in world.env.uffds.items()],
        "env": [world.env.zero_dev, world.env.inferred],
        "config": _changed_config(world),
        "limits": world.limits.state(world.mms),
        "bases": [b.written | b.own << 1 | b.late << 2 | b.lent << 3 for b in seen.bases.known],
        "begun": sorted(world.begun),
        "oops": world.oops,
        **_encode_files(world, seen.files),
        "columns": columns.spec,
    }
    text = json.dumps(head, sort_keys=True, separators=(",", ":")).encode()
    return b"".join((len(text).to_bytes(4, "little"), text, *columns.parts))


def _encode_mm(mm: Mm, seen: _Seen, columns: _Columns) -> dict[str, Any]:
    vmas = columns_of(mm)
    columns.add(vmas.edges)
    columns.add(seen.attrs.of_all(vmas.attrs))
    columns.add(seen.anons.of_all(vmas.anons))
    chain_of = seen.chains.of
    columns.add(
        [
            0 if not chain else OWN if len(chain) == 1 and chain[0] is anon else chain_of(chain)
            for chain, anon in zip(vmas.chains, vmas.anons, strict=True)
        ]
    )
    columns.add(vmas.unsure)
    columns.add(sorted(mm.pmds))
    return {
        "labels": vmas.labels,
        "bases": [[n, seen.bases.of(base)] for n, base in vmas.bases],
        "guards": mm.guards.ranges(),
        "values": [getattr(mm, name) for name in MM_VALUES],
    }


def _encode_attrs(seen: _Seen, columns: _Columns) -> None:
    files, policies, uffds = seen.files, seen.policies, seen.uffds
    names: _Numbers[str] = _Numbers(1)
    rows = list(seen.attrs.known)
    columns.add([a.vm_flags for a in rows])
    columns.add([0 if a.vm_file is None else files.of(a.vm_file) for a in rows])
    columns.add([0 if a.vm_policy is None else policies.of(a.vm_policy) for a in rows])
    columns.add([0 if a.uffd is None else uffds.of(a.uffd) for a in rows])
    columns.add([0 if a.anon_name is None else names.of(a.anon_name) for a in rows])
    columns.add([_zigzag(a.delta) for a in rows])
    columns.add([_zigzag(a.anon_delta) for a in rows])
    text = json.dumps(list(names.known)).encode()
    columns.add(list(text))


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def _unzigzag(value: int) -> int:
    return -(value + 1 >> 1) if value & 1 else value >> 1


def _closure(anons: _Numbers[AnonVma]) -> list[AnonVma]:
    """Every numbered anon_vma and its ancestors, which get numbers as they are met."""
    known = list(anons.known)
    for anon in known:
        if anon.parent not in anons.known:
            anons.of(anon.parent)
            known.append(anon.parent)
    return known


def _encode_files(world: World, files: _Numbers[File]) -> dict[str, Any]:
    """Files that something refers to, in full; of the others, only that the world has made them."""
    for file in world.images.values():
        files.of(file)
    made: list[list[int] | int] = []
    for number, file in world.files.items():
        if file not in files.known and _content(world.make_file(number)) == _content(file):
            made.append(number)
        else:
            made.append([number, files.of(file)])
    images = [[*identity, files.of(file)] for identity, file in world.images.items()]
    return {"files": [_content(f) for f in files.known], "made": made, "images": images}


def _content(file: File) -> list[Any]:
    return [getattr(file, name) for name in FILE_VALUES]


def _changed_config(world: World) -> dict[str, Any]:
    """The configuration as far as it is not what the trace's header says."""
    fresh, now = config_of(world.header), world.env.config
    names = [field.name for field in fields(Config)]
    return {name: getattr(now, name) for name in names if getattr(now, name) != getattr(fresh, name)}


def decode(data: bytes, world: World) -> World:
    """Put the state into a world that no event has been folded into. Raises ValueError."""
    size = 4 + int.from_bytes(data[:4], "little")
    head = json.loads(data[4:size])
    if head["format"] != FORMAT:
        raise ValueError(f"snapshot format {head['format']}, not {FORMAT}")
    columns = _read_columns(data, size, head["columns"])
    take = iter(columns).__next__
    raw = [[take() for _ in range(6)] for _ in head["mms"]]
    files = [_make_file(row) for row in head["files"]]
    uffds = [_make_uffd(*row) for row in head["uffds"]]
    policies = [Mempolicy(*row) for row in head["policies"]]
    attrs = _decode_attrs(world.env, [take() for _ in range(8)], files, policies, uffds)
    anons = _decode_anons(take())
    chains = [tuple([anons[n - 1] for n in row]) for row in head["chains"]]
    bases = [BaseAnon(*(bool(bits & bit) for bit in (1, 2, 4, 8))) for bits in head["bases"]]
    world.begun.update(head["begun"])
    for space, own in zip(head["mms"], raw, strict=True):
        mm = _decode_mm(world, space, own, attrs, anons, chains, bases)
        world.mms[mm.number] = mm
    for entry in head["made"]:
        if isinstance(entry, int):
            world.files[entry] = world.make_file(entry)
        else:
            world.files[entry[0]] = files[entry[1] - 1]
    world.images.update({(dev, inode, path): files[n - 1] for dev, inode, path, n in head["images"]})
    world.env.uffds.update({file: uffds[n - 1] for file, n in head["uffd_of"]})
    world.env.forked_uffds += [uffds[n - 1] for n in head["uffds_forked"]]
    world.env.zero_dev, world.env.inferred = head["env"]
    _set_config(world.env.config, head["config"])
    world.limits.restore(head["limits"], world.mms)
    world.oops = head["oops"]
    return world


def _read_columns(data: bytes, at: int, spec: list[Any]) -> list[list[int]]:
    found = []
    for code, count in spec:
        size = calcsize(code)
        part = data[at : at + size * count]
        at += size * count
        if size == 1:
            found.append(list(part))
            continue
        raw = bytearray(len(part))
        for n in range(size):
            raw[n::size] = part[n * count : (n + 1) * count]
        found.append(list(unpack(f"<{count}{code}", raw)))
    return found


def _make_file(row: list[Any]) -> File:
    file = File(row[0], row[1])
    for name, value in zip(FILE_VALUES, row, strict=True):
        setattr(file, name, value)
    return file


def _make_uffd(file: int, features: int, mm: int, released: bool) -> UffdCtx:
    ctx = UffdCtx(file, features, mm)
    ctx.released = released
    return ctx


def _decode_attrs(
    env: Env, columns: list[list[int]], files: list[File], policies: list[Mempolicy], uffds: list[UffdCtx]
) -> list[VmaAttrs]:
    *numbers, text = columns
    table = env.table
    file_of: list[File | None] = [None, *files]
    policy_of: list[Mempolicy | None] = [None, *policies]
    uffd_of: list[UffdCtx | None] = [None, *uffds]
    name_of: list[str | None] = [None, *json.loads(bytes(text))]
    return [
        table.get(flags, file_of[f], policy_of[p], uffd_of[u], name_of[n], _unzigzag(d), _unzigzag(a))
        for flags, f, p, u, n, d, a in zip(*numbers, strict=True)
    ]


def _decode_anons(parents: list[int]) -> list[AnonVma]:
    """anon_vmas by number, less one; a parent may come after its child in the list."""
    anons = [AnonVma() for _ in parents]
    if any(parents):
        for anon, parent in zip(anons, parents, strict=True):
            if parent:
                anon.parent = anons[parent - 1]
        for anon in anons:
            root = anon
            while root.parent is not root:
                root = root.parent
            anon.root = root
    return anons


def _decode_mm(
    world: World,
    space: dict[str, Any],
    columns: list[list[int]],
    attrs: list[VmaAttrs],
    anons: list[AnonVma],
    chains: list[Chain],
    bases: list[BaseAnon],
) -> Mm:
    edges, attr_of, anon_of, chain_of, unsure, pmds = columns
    values = dict(zip(MM_VALUES, space["values"], strict=True))
    mm = Mm(world.env, values["number"])
    for name, value in values.items():
        setattr(mm, name, value)
    vmas = vmas_of(edges, [attrs[n] for n in attr_of], anon_of, chain_of, anons, chains)
    world.env.open_offsets |= any(a.open_offset for a in attrs)
    if any(unsure):
        for vma, doubt in zip(vmas, unsure, strict=True):
            vma.unsure = doubt
    for n, label in space["labels"]:
        vmas[n].label = label
    for n, number in space["bases"]:
        vmas[n].base = bases[number]
    mm.fill(vmas)
    mm.pmds = set(pmds)
    mm.guards = Guards([(start, end) for start, end in space["guards"]])
    mm.dirty = [] if world.watch else None
    return mm


def _set_config(config: Config, changed: dict[str, Any]) -> None:
    for name, value in changed.items():
        setattr(config, name, value)
