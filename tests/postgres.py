"""A private PostgreSQL server for the tests: started when it is first asked for, gone with the last of them."""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import subprocess
import tempfile
from functools import cache
from itertools import count
from pathlib import Path

import pytest

ROOM = 4 << 30  # bytes: some hundred databases of 8 MB
_numbers = count(1)


def _binaries() -> Path | None:
    """The folder of initdb: Debian's newest, else that of the PATH."""
    homes = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if homes:
        return homes[-1].parent
    found = shutil.which("initdb")
    return None if found is None else Path(found).resolve().parent


def _as_owner(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program as `postgres` where we are root (the server refuses root), else as ourselves."""
    command = [str(word) for word in words]
    if os.geteuid() == 0:
        command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]
    return subprocess.run(command, capture_output=True, text=True, cwd="/")


def _in_memory() -> str | None:
    """A folder in memory where there is plenty: a database of its own for each test is many files."""
    shm = "/dev/shm"
    roomy = os.path.isdir(shm) and os.access(shm, os.W_OK) and shutil.disk_usage(shm).free > ROOM
    return shm if roomy else None


@cache
def _server() -> str:
    """The folder of a running server's socket. Skips the test where there can be none, saying why."""
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("PostgreSQL: psycopg is not installed")
    binaries = _binaries()
    if binaries is None:
        pytest.skip("PostgreSQL: no initdb here (Debian: apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="vmapg", dir=_in_memory()))  # short: the path of a socket has 107 bytes
    if os.geteuid() == 0:
        try:
            shutil.chown(folder, "postgres", "postgres")
        except LookupError:
            pytest.skip("PostgreSQL: no user postgres, and the server refuses root")
    data = folder / "data"
    made = _as_owner(binaries / "initdb", "-D", data, "-A", "trust", "-U", "vmastore", "-E", "UTF8", "--no-sync")
    rules = data / "pg_hba.conf"
    if made.returncode == 0:  # everybody is trusted but `locked`, who needs a password
        rules.write_text(f"local all locked scram-sha-256\n{rules.read_text()}")
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off -c max_connections=40"
    started = _as_owner(binaries / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start")

    def stop() -> None:
        _as_owner(binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(stop)
    if started.returncode:
        pytest.skip(f"PostgreSQL does not start here: {made.stderr} {started.stderr}")
    return str(folder)


@cache
def _ready() -> str:
    """The name of a database that holds an empty store: others are made as its copies."""
    from vmastore.store import open_store

    with open_store(_url(_create("ready"))):
        pass
    return "ready"


def _create(name: str, template: str = "template0") -> str:
    import psycopg

    with psycopg.connect(host=_server(), user="vmastore", dbname="postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    return name


def _url(name: str) -> str:
    return f"postgresql+psycopg://vmastore@/{name}?host={_server()}"


def new_database() -> str:
    """The URL of a fresh, empty database."""
    _server()
    return _url(_create(f"t{next(_numbers)}"))


def new_store() -> str:
    """The URL of a fresh database with an empty store in it."""
    _server()
    return _url(_create(f"t{next(_numbers)}", _ready()))


def copy_of(url: str) -> str:
    """The URL of a copy of a database to which nobody is connected."""
    from vmastore.store.engine import to_url

    return _url(_create(f"t{next(_numbers)}", str(to_url(url).database)))
