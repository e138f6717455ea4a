"""Two runs of several processes: address spaces are paired by where they come from."""

from __future__ import annotations

from vmastore.replay.bisect.spaces import pair, paths


def row(mm: int, parent: int | None, origin: str, born: int) -> tuple[int, int, int | None, str, int, None, int]:
    return mm, 100 + mm, parent, origin, born, None, 1


ONE = [
    row(0, None, "attach", 0),
    row(1, None, "exec", 1),
    row(2, 1, "fork", 5),
    row(3, 1, "fork", 9),
    row(4, 2, "exec", 11),
]


def test_a_path_tells_forks_and_execs() -> None:
    """The how-manieth child of its parent, by birth; an unknown address space has none."""
    assert paths(ONE) == {
        1: (("exec", 0),),
        2: (("exec", 0), ("fork", 0)),
        3: (("exec", 0), ("fork", 1)),
        4: (("exec", 0), ("fork", 0), ("exec", 0)),
    }


def test_numbers_do_not_matter() -> None:
    """The like of the other run may have another number; what has none is listed."""
    two = [row(1, None, "exec", 1), row(7, 1, "fork", 4), row(5, 7, "exec", 6), row(6, 1, "fork", 8)]
    two.append(row(8, 6, "fork", 9))
    assert pair(ONE, two) == ([(1, 1), (2, 7), (3, 6), (4, 5)], [], [8])
    assert pair(two, ONE) == ([(1, 1), (7, 2), (5, 4), (6, 3)], [8], [])
