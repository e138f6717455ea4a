"""A trace as a C program in the manner of a kernel selftest: it does the calls and checks maps after each.

Exit status 0: every answer and every line as expected; 1: not; 4: this system cannot run it (TAP skip).
"""

from __future__ import annotations

from collections.abc import Callable

from vmastore.errors import InputError
from vmastore.events import FileInfo, ObservedVma
from vmastore.mm.flags import PAGE_SIZE
from vmastore.reports.c_text import ADVICE, FOOT, MODES, POLICIES, PRCTL, PROTS, part, quoted, symbols
from vmastore.reports.program import Program, Step
from vmastore.syscalls.userfaultfd import FILLING
from vmastore.version import VERSION

_FAULT_SIZE = 64 * PAGE_SIZE  # of a file whose size is not known, at least


def export_c(program: Program) -> str:
    """The program's source text; compiles with -Wall -Wextra -Werror. Raises InputError."""
    body: list[str] = []
    for n, step in enumerate(program.steps, 1):
        last = program.oops and n == len(program.steps)
        body += _step(program, n, step, crashes=last)
    return "".join(
        [
            _title(program),
            part("head").replace("@BASE@", hex(program.base)).replace("@PAGES@", str(program.page(program.end))),
            part("limit") if program.limit is not None else "",
            _files(program),
            "int main(void)\n{\n\tlong got;\n\n",
            f'\tprintf("TAP version 13\\n1..{len(program.steps)}\\n");\n',
            "\treserve_arena();\n\topen_files();\n",
            f"\tfill_up({program.limit});\n" if program.limit is not None else "",
            *body,
            FOOT,
        ]
    )


def _title(program: Program) -> str:
    return (
        "// SPDX-License-Identifier: MIT\n"
        "/*\n"
        f" * {comment(program.name)}: {len(program.steps)} operations on VMAs, and what Linux {program.rules.name}"
        " makes of them.\n"
        f" * Written by vmastore {VERSION}. Build: cc -Wall -Wextra -o reproducer this.c\n"
        + "".join(f" * {comment(text)}\n" for text in program.notes)
        + " */\n"
    )


def comment(text: str) -> str:
    """Text that does not end a comment."""
    return text.replace("*/", "* /").replace("\n", " ").replace("\\", "/")


def _files(program: Program) -> str:
    """open_files(): the descriptions that the steps map, by their number in the trace."""
    numbers = sorted({s.event.file for s in program.steps if s.event.file is not None})
    top = max(numbers, default=0) + 1
    lines = [f"static int file[{top}];", "", "static void open_files(void)", "{"]
    for number in numbers:
        info = program.files.get(number) or FileInfo(number, None, "regular")
        lines.append(f"\tfile[{number}] = {_open(program, number, info)};")
    if not numbers:
        lines.append("\tfile[0] = -1;")
    return "\n".join([*lines, "}", "", ""])


def _open(program: Program, number: int, info: FileInfo) -> str:
    if info.kind == "uffd":
        apis = [s for s in program.steps if s.event.file == number and s.event.args[1:2] == ("UFFDIO_API",)]
        return f"open_userfaultfd({int(not apis)})"
    if info.kind == "zero":
        return 'or_skip(open("/dev/zero", O_RDWR), "/dev/zero")'
    size = info.size or 0
    for step in program.steps:
        if step.event.file != number or step.outcome.errno:
            continue
        if step.event.call == "mmap":
            size = max(size, step.event.args[5] + step.event.args[1], _FAULT_SIZE)
        elif step.event.call == "shmat":
            size = max(size, step.event.args[3] or 0)
    if info.kind == "shm":
        return f'or_skip(shmget(IPC_PRIVATE, {max(size, PAGE_SIZE)}UL, IPC_CREAT | 0600), "shmget")'
    mode = MODES[(info.readable is not False, info.writable is not False)]
    maker = "1" if info.kind in ("memfd", "shmem", "tmpfs") else "0"
    return f"open_file({maker}, {size}UL, {mode})"


def _step(program: Program, n: int, step: Step, *, crashes: bool) -> list[str]:
    event = step.event
    lines = [f"\n\t/* {comment(step.text)} */\n"]
    if event.call == "fork":
        return [*lines, f"\tgo_on_in_child({n});\n", _lines(program, n, step)]
    if event.call == "fault":
        refused = _refused(step)
        start, length = _addr(program, event.args[0]), _size(event.args[1])
        write = int(event.args[2] == "w")
        lines.append(f"\tgot = touch({start}, {length}, {write});\n\tanswer({n}, got, {refused});\n")
        return [*lines, _lines(program, n, step)]
    if event.call == "stack_grow":
        lines.append(f"\tgot = touch({_addr(program, event.args[0])}, 1, 1);\n\tanswer({n}, got, 0);\n")
        return [*lines, _lines(program, n, step)]
    if event.call == "release":
        lines.append(f"\tgot = call(SYS_close, file[{event.file}], 0, 0, 0, 0, 0);\n\tanswer({n}, got, 0);\n")
        return [*lines, _lines(program, n, step)]
    writer = _WRITERS.get(event.call)
    if writer is None:
        raise InputError(f"event {event.seq} ({event.call}) has no form in C")
    args = writer(program, step)
    padded = ", ".join((args + ["0"] * 6)[:6])
    lines.append(f"\tgot = call({_NUMBERS.get(event.call, 'SYS_' + event.call)}, {padded});\n")
    if crashes:
        return [*lines, "\t/* under these rules the kernel dereferences an error pointer in this call */\n"]
    if step.outcome.errno:
        lines.append(f"\tanswer({n}, got, -{errno_name(step.outcome.errno)});\n")
    elif event.call in ("mmap", "mremap", "shmat") and step.outcome.result:
        lines.append(f"\tanswer({n}, got, (long)({_addr(program, step.outcome.result)}));\n")
    elif step.outcome.result is not None:
        lines.append(f"\tanswer({n}, got, {step.outcome.result});\n")
    return [*lines, _lines(program, n, step)]


def _refused(step: Step) -> int:
    """How many pages of a fault were refused, as the trace saw it or as replay predicts."""
    seen = step.event.args[3] if len(step.event.args) > 3 else None
    return int(step.outcome.result or 0) if seen is None else sum(c != "." for c in seen)


def errno_name(errno: int) -> str:
    import errno as codes

    return codes.errorcode.get(errno, str(errno))


def _lines(program: Program, n: int, step: Step) -> str:
    """The check of the arena's lines."""
    text = quoted(step.text)
    if not step.lines:
        return f"\tcheck({n}, {text}, NULL, 0);\n"
    rows = "".join(f"\t\t{_line(program, line)},\n" for line in step.lines)
    return f"\tcheck({n}, {text}, (const struct line[]) {{\n{rows}\t}}, {len(step.lines)});\n"


def _line(program: Program, line: ObservedVma) -> str:
    name = line.name if line.name.startswith("[anon") else ""
    start, end = program.page(line.start), program.page(line.end)
    return f"{{ {start}, {end}, {quoted(line.perms)}, {line.offset:#x}UL, {quoted(name) if name else 'NULL'} }}"


def _addr(program: Program, addr: int) -> str:
    """`BASE + 3 * PAGE`, or the number where it lies outside the arena."""
    if not program.base <= addr <= program.end:
        return f"{addr:#x}UL"
    page, rest = divmod(addr - program.base, PAGE_SIZE)
    return f"BASE + {page} * PAGE" + (f" + {rest}" if rest else "")


def _size(length: int) -> str:
    if length and not length % PAGE_SIZE and 0 < length < 1 << 47:
        return f"{length // PAGE_SIZE} * PAGE"
    return f"{length & (1 << 64) - 1:#x}UL"


def _range(program: Program, step: Step) -> list[str]:
    return [_addr(program, step.event.args[0]), _size(step.event.args[1])]


def _mmap(program: Program, step: Step) -> list[str]:
    addr, length, prot, flags, _, offset = step.event.args
    fd = "-1" if step.event.file is None else f"file[{step.event.file}]"
    return [
        _addr(program, addr),
        _size(length),
        symbols(prot, PROTS, "PROT_NONE"),
        map_flags(flags),
        fd,
        f"{offset:#x}UL",
    ]


_SHARING = {1: "MAP_SHARED", 2: "MAP_PRIVATE", 3: "MAP_SHARED_VALIDATE", 8: "MAP_DROPPABLE"}
_MAP = (
    (0x10, "MAP_FIXED"), (0x20, "MAP_ANONYMOUS"), (0x40, "MAP_32BIT"), (0x100, "MAP_GROWSDOWN"),
    (0x800, "MAP_DENYWRITE"), (0x1000, "MAP_EXECUTABLE"), (0x2000, "MAP_LOCKED"), (0x4000, "MAP_NORESERVE"),
    (0x8000, "MAP_POPULATE"), (0x10000, "MAP_NONBLOCK"), (0x20000, "MAP_STACK"),
    (0x100000, "MAP_FIXED_NOREPLACE"),
)  # fmt: skip


def map_flags(flags: int) -> str:
    """`MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS`."""
    kind = _SHARING.get(flags & 0xF, str(flags & 0xF))
    rest = symbols(flags & ~0xF, _MAP, "")
    return f"{kind} | {rest}" if rest else kind


def _mprotect(program: Program, step: Step) -> list[str]:
    return [*_range(program, step), symbols(step.event.args[2], PROTS, "PROT_NONE")]


def _madvise(program: Program, step: Step) -> list[str]:
    advice = step.event.args[2]
    return [*_range(program, step), ADVICE.get(advice, str(advice))]


def _mremap(program: Program, step: Step) -> list[str]:
    addr, old, new, flags, *rest = step.event.args
    names = ((1, "MREMAP_MAYMOVE"), (2, "MREMAP_FIXED"), (4, "MREMAP_DONTUNMAP"))
    target = _addr(program, rest[0]) if rest and rest[0] else "0"
    return [_addr(program, addr), _size(old), _size(new), symbols(flags, names, "0"), target]


def _numbers(program: Program, step: Step) -> list[str]:
    return [*_range(program, step), *(str(n) for n in step.event.args[2:])]


def _plain(program: Program, step: Step) -> list[str]:
    return [hex(n) for n in step.event.args]


def _pkey_mprotect(program: Program, step: Step) -> list[str]:
    return [*_mprotect(program, step), "-1"]


def _process_madvise(program: Program, step: Step) -> list[str]:
    """On the process itself, whose descriptor the program opens."""
    _, pairs, _, advice, flags = step.event.args
    parts = ", ".join(f"{{ (void *)({_addr(program, start)}), {_size(length)} }}" for start, length in pairs)
    vector = f"(unsigned long)(const struct iovec[]){{ {parts} }}"
    return ["open_self()", vector, str(len(pairs)), ADVICE.get(advice, str(advice)), str(flags)]


def _mbind(program: Program, step: Step) -> list[str]:
    _, _, mode, mask, maxnode, flags = step.event.args
    pointer = "0" if mask is None else f"(unsigned long)&(unsigned long){{ {mask:#x}UL }}"
    return [*_range(program, step), POLICIES.get(mode, str(mode)), pointer, str(maxnode), str(flags)]


def _prctl(program: Program, step: Step) -> list[str]:
    option, *rest = step.event.args
    if option == 0x53564D41:
        name = rest[4] if len(rest) > 4 else None
        pointer = "0" if name is None else f"(unsigned long){quoted(name)}"
        return ["PR_SET_VMA", "PR_SET_VMA_ANON_NAME", _addr(program, rest[1]), _size(rest[2]), pointer]
    return [PRCTL.get(option, str(option)), *(str(n if isinstance(n, int) else 0) for n in rest[:4])]


def _ioctl(program: Program, step: Step) -> list[str]:
    _, cmd, addr, length, mode, *rest = (*step.event.args, None, None, None, None, None)[:6]
    fd = f"file[{step.event.file}]"
    if cmd == "UFFDIO_API":
        features = (rest[0] if rest else 0) or 0
        return [fd, "UFFDIO_API", f"(unsigned long)&(struct uffdio_api){{ .api = UFFD_API, .features = {features} }}"]
    span = f"{{ {_addr(program, addr)}, {_size(length)} }}"
    if cmd == "UFFDIO_REGISTER":
        value = f"(unsigned long)&(struct uffdio_register){{ .range = {span}, .mode = {mode or 0} }}"
        return [fd, "UFFDIO_REGISTER", value]
    if cmd == "UFFDIO_UNREGISTER":
        return [fd, "UFFDIO_UNREGISTER", f"(unsigned long)&(struct uffdio_range){span}"]
    if cmd in FILLING:  # what fills the pages does not matter to a VMA
        return [fd, "UFFDIO_ZEROPAGE", f"(unsigned long)&(struct uffdio_zeropage){{ .range = {span} }}"]
    raise InputError(f"event {step.event.seq}: ioctl {cmd} has no form in C")


def _shmat(program: Program, step: Step) -> list[str]:
    _, addr, flags, _ = step.event.args
    return [
        f"file[{step.event.file}]" if step.event.file is not None else "-1",
        _addr(program, addr or 0),
        str(flags),
    ]


def _shmdt(program: Program, step: Step) -> list[str]:
    return [_addr(program, step.event.args[0])]


_WRITERS: dict[str, Callable[[Program, Step], list[str]]] = {
    "mmap": _mmap,
    "munmap": _range,
    "mprotect": _mprotect,
    "mremap": _mremap,
    "pkey_mprotect": _pkey_mprotect,
    "madvise": _madvise,
    "process_madvise": _process_madvise,
    "remap_file_pages": _numbers,
    "mlock": _range,
    "mlock2": _numbers,
    "munlock": _range,
    "mlockall": _plain,
    "munlockall": _plain,
    "mbind": _mbind,
    "set_mempolicy_home_node": _numbers,
    "prctl": _prctl,
    "ioctl": _ioctl,
    "shmat": _shmat,
    "shmdt": _shmdt,
    "mseal": _numbers,
    "personality": _plain,
}
# system calls that older headers do not number
_NUMBERS = {"mseal": "462", "set_mempolicy_home_node": "450", "process_madvise": "440"}
