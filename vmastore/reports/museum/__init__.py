"""The museum: bugs of VMA merging and splitting that a replay can show, and notes on those it cannot."""

from __future__ import annotations

from vmastore.errors import InputError
from vmastore.reports.museum.exhibit import Exhibit
from vmastore.reports.museum.merging import MERGING
from vmastore.reports.museum.mremap import MREMAP
from vmastore.reports.museum.notes import NOTES
from vmastore.reports.museum.placing import PLACING
from vmastore.reports.museum.policy import POLICY
from vmastore.reports.museum.uffd import UFFD

__all__ = ["EXHIBITS", "NOTES", "Exhibit", "exhibit"]

EXHIBITS: tuple[Exhibit, ...] = (*MERGING, *MREMAP, *POLICY, *UFFD, *PLACING)


def exhibit(name: str) -> Exhibit:
    """The exhibit of that name. Raises InputError, for a note with what it says."""
    for found in EXHIBITS:
        if found.name == name:
            return found
    for note, title, why in NOTES:
        if note == name:
            raise InputError(f"{name} cannot be played: {title}. {why}.")
    raise InputError(f"the museum has no {name!r}", hint="`vmastore museum list`")
