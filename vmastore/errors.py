"""The exceptions of vmastore: what *we* cannot do.

What the kernel would refuse is not an exception but a recorded result carrying an errno.
"""

from __future__ import annotations


class VmastoreError(Exception):
    """Something vmastore cannot do, in one sentence that names the thing.

    `hint`, when there is one, is the next step for the user. The command line prints
    both (``Error: …``, ``Hint: …``) and exits with 2.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputError(VmastoreError):
    """A file, line, address or argument that cannot be used; the message names it."""


class StoreError(VmastoreError):
    """A database that is missing, foreign, locked, read-only, damaged or of another schema."""


class ConcurrencyError(StoreError):
    """An append expected another version of the trace than the one that is stored."""


class UnknownTraceError(StoreError):
    """No trace of that name or number in the store."""


class RuleError(VmastoreError):
    """A kernel release, preset or rule switch that does not exist."""


class RecordError(VmastoreError):
    """The recorder cannot do its work here (strace missing, no permission, …)."""
