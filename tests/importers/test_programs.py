"""Logs of real programs with their maps at start and exit (the corpus): the replay of what the log shows is exact."""

from __future__ import annotations

import gzip
import re
import tarfile
from pathlib import Path

import pytest

from vmastore.importers.beside import Besides
from vmastore.importers.maps_file import parse_maps
from vmastore.importers.observations import Observation, Observing
from vmastore.importers.strace import StraceReader
from vmastore.mm.rules import resolve
from vmastore.replay.verify import Verifier
from vmastore.replay.verify_report import Report
from vmastore.replay.world import World

PROGRAMS = sorted((Path(__file__).parents[3] / "shared" / "corpus" / "programs").glob("*.strace.gz"))
# the call that a process makes before it saves its smaps: which (1 at its start, 2 at its exit), pid
_MARKER = re.compile(rb"(?P<pid>\d+) .*\bprctl\(0x564d4150 /\* PR_\?\?\? \*/, 0x(?P<which>[12]), 0x[0-9a-f]+, 0, 0\)")


def observations(log: Path) -> list[Observation]:
    """The saved smaps (heads and VmFlags), each at its marker's line."""
    lines = {}
    with gzip.open(log) as stream:
        for number, line in enumerate(stream, 1):
            match = _MARKER.match(line)
            if match:
                lines[int(match["pid"]), "start" if match["which"] == b"1" else "exit"] = number
    found = []
    with tarfile.open(log.with_name(log.name.replace(".strace.gz", ".snaps.tar.gz"))) as archive:
        for member in archive.getmembers():
            name = re.search(r"/(\d+)\.(start|exit)\.maps\Z", member.name)
            stream = archive.extractfile(member) if name else None
            if name is None or stream is None:
                continue
            pid, which = int(name[1]), name[2]
            maps = parse_maps(stream.read().decode().splitlines(), member.name)
            if maps and (pid, which) in lines:
                found.append(Observation(member.name, maps, lines[pid, which], None, pid))
    return found


def verify(log: Path) -> Report:
    """The replay of a log under the kernel of the corpus, compared with what was saved."""
    reader = Besides(StraceReader([log]), [Observing(observations(log))])
    return Verifier(World(reader.header, lambda: reader.files, resolve("6.18.44"))).run(reader.events())


@pytest.mark.skipif(not PROGRAMS, reason="the recorded programs are not here")
@pytest.mark.parametrize("log", PROGRAMS, ids=[path.name.partition(".")[0] for path in PROGRAMS])
def test_a_programs_exit_is_what_its_start_and_log_come_to(log: Path) -> None:
    """From the maps at its start on, each process's maps at its exit are as replayed: no certain mismatch."""
    report = verify(log)
    assert (report.mismatches, report.errno_mismatches) == (0, 0)
    assert report.compared + report.settled > 0
