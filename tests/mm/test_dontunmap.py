"""What MREMAP_DONTUNMAP leaves behind: the page offsets of a source that was moved whole."""

from __future__ import annotations

import pytest
from process import Process

from vmastore.mm.rules import preset

DONTUNMAP = 4


@pytest.mark.parametrize(("kernel", "lines"), [("6.18", "[20-22 rw-p][22-24 rw-p]"), ("7.3", "[20-24 rw-p]")])
def test_an_anonymous_source_is_as_good_as_new(kernel: str, lines: str) -> None:
    """Moved after a write, then left behind: since 7.3 its page offset is that of new memory beside it."""
    p = Process(kernel)
    p.mmap(10, 2)
    p.write(10)
    p.move(10, 2, 20)
    assert p.move(20, 2, 40, DONTUNMAP) > 0
    p.mmap(22, 2)
    assert p.lines(20, 24) == lines


@pytest.mark.parametrize("rule", [True, False])
def test_so_is_a_private_file_mapping(rule: bool) -> None:
    """Its second, anonymous offset is reset too where there are both: then it merges with the next pages."""
    p = Process(preset("7.3").with_rule("dontunmap-resets-pgoff", rule))
    file = p.open()
    p.mmap(10, 2, file=file, offset=4)
    p.write(10)
    p.move(10, 2, 20)
    assert p.move(20, 2, 40, DONTUNMAP) > 0
    p.mmap(22, 2, file=file, offset=6)
    assert p.lines(20, 24) == ("[20-24 rw-p]" if rule else "[20-22 rw-p][22-24 rw-p]")
