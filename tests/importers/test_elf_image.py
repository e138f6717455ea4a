"""ELF headers: segments, bss, RELRO, and what is no executable."""

from __future__ import annotations

from pathlib import Path

import pytest
from elf_files import LOAD, PIE, elf, write_pie

from vmastore.errors import InputError
from vmastore.importers.elf_image import Image, Segment, read_image

pytest.importorskip("elftools", reason="pyelftools is not installed")


def test_segments_become_mappings(tmp_path: Path) -> None:
    """Whole pages of the file, then anonymous memory for bss; clearing the end of the last page writes to it."""
    image = read_image(write_pie(tmp_path / "prog"))
    assert (image.fixed, image.interpreter, image.relro) == (False, "/ld.so.1", (0x8000, 0x1000))
    lines = image.lines(0x555555554000, "/opt/prog")
    assert [(hex(v.start), hex(v.end), v.perms, v.offset, v.name, v.written) for v in lines] == [
        ("0x555555554000", "0x555555556000", "r--p", 0, "/opt/prog", None),
        ("0x555555556000", "0x55555555a000", "r-xp", 0x2000, "/opt/prog", None),
        ("0x55555555c000", "0x55555555e000", "rw-p", 0x7000, "/opt/prog", True),
        ("0x55555555e000", "0x55555555f000", "rw-p", 0, "", None),
    ]
    assert image.base(0x55555555C000, 0x1000) == 0x555555554000
    assert image.base(0x55555555C000, 0x2000) is None


def test_a_fixed_program_and_segments_without_file(tmp_path: Path) -> None:
    """ET_EXEC is at its own addresses; a segment that is bss alone is anonymous; one that ends at a page is not
    written by exec."""
    path = tmp_path / "prog"
    path.write_bytes(elf(2, [(LOAD, 6, 0x1000, 0x400000, 0x1000, 0x1000), (LOAD, 7, 0, 0x600000, 0, 0x1800)]))
    image = read_image(path)
    assert image == Image(
        str(path),
        True,
        (Segment(0x400000, 0x1000, 0x1000, 0x1000, "rw-p"), Segment(0x600000, 0, 0, 0x1800, "rwxp")),
        None,
        None,
    )
    assert [(v.start, v.end, v.perms, v.name, v.written) for v in image.lines(0)] == [
        (0x400000, 0x401000, "rw-p", str(path), None),
        (0x600000, 0x602000, "rwxp", "", None),
    ]


def test_a_script_runs_its_interpreter(tmp_path: Path) -> None:
    """#! names the program that exec maps; scripts that run themselves end in an error."""
    program = write_pie(tmp_path / "prog")
    script = tmp_path / "script"
    script.write_text(f"#! {program} -x\n")
    assert read_image(script).path == str(program)
    script.write_text(f"#!{script}\n")
    with pytest.raises(InputError, match="too deep"):
        read_image(script)


BAD = {
    "missing": None,
    "empty": b"",
    "text": b"hello\n",
    "cut": elf(3, PIE)[:100],
    "object": elf(1, PIE),
    "nothing to load": elf(3, []),
    "no name": elf(3, PIE)[:0x300],
    "an odd class": b"\x7fELF\x07" + bytes(200),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_what_is_no_executable_is_one_error(tmp_path: Path, data: bytes | None) -> None:
    """InputError that names the file."""
    path = tmp_path / "prog"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InputError, match=str(path)):
        read_image(path)
