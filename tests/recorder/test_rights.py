"""Programs whose files give rights that a traced process does not get."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmastore.recorder import record, rights
from vmastore.recorder.rights import Withheld, note, withheld
from vmastore.recorder.strace import Hold

STATUS = "Name:\tx\nUid:\t1000\t{uid}\t0\t0\nGid:\t1000\t{gid}\t0\t0\nCapEff:\t{caps}\n"


def _file(mode: int, uid: int = 0, gid: int = 0) -> os.stat_result:
    return os.stat_result((stat.S_IFREG | mode, 1, 1, 1, uid, gid, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("info", "capabilities", "uid", "gid", "caps", "expected"),
    [
        (_file(0o4755), False, 1000, 1000, "0", "setuid"),
        (_file(0o4755), False, 0, 1000, "3fff", None),
        (_file(0o4755, uid=1000), False, 1000, 1000, "0", None),
        (_file(0o2755), False, 1000, 1000, "0", "setgid"),
        (_file(0o2745), False, 1000, 1000, "0", None),
        (_file(0o2755, gid=1000), False, 1000, 1000, "0", None),
        (_file(0o755), True, 1000, 1000, "0", "file capabilities"),
        (_file(0o755), True, 1000, 1000, "2000", None),
        (_file(0o755), False, 1000, 1000, "0", None),
    ],
    ids=["setuid", "has-it", "own", "setgid", "locking", "own-group", "capabilities", "has-them", "plain"],
)
def test_what_a_process_lacks_of_its_programs_rights(
    info: os.stat_result, capabilities: bool, uid: int, gid: int, caps: str, expected: str | None
) -> None:
    """Only what it has not got anyway; setgid without execution by the group means something else."""
    assert rights._withheld(info, capabilities, STATUS.format(uid=uid, gid=gid, caps=caps)) == expected


def test_the_note_counts_and_names_the_commonest() -> None:
    """Each program with its kind, three at most."""
    assert note([]) is None
    found = [Withheld("/bin/su", "setuid")] * 2 + [Withheld(f"/bin/{n}", "setgid") for n in "abc"]
    text = str(note(found))
    assert (
        text.startswith("5 programs ran")
        and "/bin/su (setuid) 2 times, /bin/a (setgid), /bin/b (setgid), 1 others" in text
    )


def test_a_process_without_such_a_program_lacks_nothing() -> None:
    """This one; and one that is not there cannot be told of."""
    assert withheld(os.getpid()) is None and withheld(1 << 22) is None


@pytest.fixture
def anybodys() -> Iterator[Path]:
    """A folder that every user may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv")
@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_a_setuid_program_deep_in_the_tree_is_noted(anybodys: Path) -> None:
    """A shell's child is setuid, and stays what its caller was: a note event, and a word in the header."""
    program = anybodys / "tool"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    program.chmod(0o4755)
    if os.statvfs(program).f_flag & os.ST_NOSUID:
        pytest.skip("programs are not setuid here")
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    argv = [*user, "sh", "-c", f"{program} 0; {program} 0; true"]
    recording = record(argv, name="su", hold=Hold(100_000, 200_000))
    events = list(recording.trace.events())
    found = [event.args[1] for event in events if event.call == "note" and event.args[0] == "rights-withheld"]
    assert found == [{"path": str(program), "kind": "setuid"}] * 2
    assert "2 programs ran with their callers' rights" in str(recording.trace.header.note)
    assert f"{program} (setuid) 2 times" in str(recording.trace.header.note)
