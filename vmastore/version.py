"""The version of vmastore, of its store, and of the engine that decides outcomes."""

from functools import cache

VERSION = "0.1.0"
SCHEMA = "0008"  # the newest revision of migrations/versions

_DECIDE = ("mm", "syscalls", "replay")


@cache
def engine() -> str:
    """`0.1.0+4f1d…`: derived data of another engine is stale, even where the version is the same.

    The digest is over the sources of the layers that decide (mm, syscalls, replay); where they are
    not files, the version stands alone.
    """
    from hashlib import blake2b
    from pathlib import Path

    base = Path(__file__).parent
    digest = blake2b(digest_size=5)
    paths = [path for folder in _DECIDE for path in sorted((base / folder).rglob("*.py"))]
    for path in paths:
        digest.update(path.relative_to(base).as_posix().encode())
        digest.update(path.read_bytes())
    return f"{VERSION}+{digest.hexdigest()}" if paths else VERSION
