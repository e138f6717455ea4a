"""What to do about an error of a database, by the words in it: SQLite's and PostgreSQL's."""

from __future__ import annotations

_HINTS = {
    "is locked": "another program is writing to it; try again",
    "lock timeout": "another program is writing to it; try again",
    "password authentication failed": "the password is in the URL (user:password@host), or in ~/.pgpass",
    "no password supplied": "the password is in the URL (user:password@host), or in ~/.pgpass",
    "Is the server running": "start the server, or correct the host and port: postgresql+psycopg://USER@HOST:PORT/DATABASE",
    "could not translate host name": "correct the host: postgresql+psycopg://USER@HOST:PORT/DATABASE",
    "failed to resolve host": "correct the host: postgresql+psycopg://USER@HOST:PORT/DATABASE",
    "No space left": "free space on the server's disk; what was committed is intact",
    "permission denied": "this account may only read: have its rights granted, or use another",
    "readonly": "it cannot be written: check its permissions and its folder's",
    "malformed": "restore it from a backup",
    "is full": "free space on its disk; what was committed is intact",
    "disk I/O error": "its disk is full, refuses or fails (see `ulimit -f`, dmesg); what was committed is intact",
}


def hint_for(what: str) -> str | None:
    """What the user may do about an error that reads so; None: nothing that is known here."""
    return next((text for word, text in _HINTS.items() if word in what), None)
