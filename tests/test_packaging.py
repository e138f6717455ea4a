"""The wheel works alone, with its commands and migrations inside."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from vmastore.version import SCHEMA

ROOT = Path(__file__).parent.parent


def run(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(w) for w in words], cwd=cwd, capture_output=True, text=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what git tracks."""
    folder = tmp_path_factory.mktemp("build")
    source = folder / "source"
    tracked = run("git", "ls-files", cwd=ROOT).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    for name in tracked:
        path = ROOT / name
        if path.is_file() and not path.is_symlink():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, source / name)
    done = run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, source, cwd=folder)
    if done.returncode and "Could not" in done.stdout + done.stderr:
        pytest.skip("the build backend cannot be fetched here")
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


def test_every_package_is_listed() -> None:
    """pyproject names each package that git tracks: what is not named is not in the wheel."""
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    tracked = run("git", "ls-files", "*__init__.py", cwd=ROOT).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    homes = {"cli": "vmastore.cli", "migrations": "vmastore._migrations"}
    there = set()
    for name in tracked:
        top, *rest = Path(name).parent.parts or ("",)
        if top in (*homes, "vmastore"):
            there.add(".".join([homes.get(top, top), *rest]))
    assert there <= listed, there - listed


def test_what_is_in_the_wheel(wheel: Path) -> None:
    """One top-level package; commands, migrations and the type marker are inside it."""
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"vmastore"}
    for wanted in ("vmastore/cli/main.py", "vmastore/_migrations/env.py", "vmastore/py.typed"):
        assert wanted in names
    assert any(name.startswith("vmastore/_migrations/versions/r0001") for name in names)


@pytest.mark.parametrize("asked", ["1", "0", ""])
def test_a_compiled_build_asks_for_its_compiler(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip asks what an isolated build needs before anything is there: mypy, where the engine is to be compiled."""
    given: dict[str, object] = {}
    monkeypatch.setitem(sys.modules, "setuptools", SimpleNamespace(setup=given.update))
    monkeypatch.setenv("VMASTORE_MYPYC", asked)
    monkeypatch.setattr(sys, "argv", ["setup.py", "egg_info"])
    runpy.run_path(str(ROOT / "setup.py"))
    assert given == {"ext_modules": [], "setup_requires": ["mypy>=1.11"] if asked == "1" else []}


_MIGRATED = """
from vmastore.store.engine import make_engine, to_url
from vmastore.store.migrate import migrate_to_head, migrating
with migrating(make_engine(to_url(":memory:"))) as connection:
    migrate_to_head(connection)
    print(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one())
"""


def test_the_wheel_works_in_a_fresh_environment(wheel: Path, tmp_path: Path) -> None:
    """Installed alone it answers, makes and migrates stores, and records where strace is."""
    venv.create(tmp_path / "venv", with_pip=True)
    binaries = tmp_path / "venv" / "bin"
    done = run(binaries / "pip", "install", "--quiet", "--disable-pip-version-check", wheel, cwd=tmp_path)
    if done.returncode:
        pytest.skip(f"dependencies cannot be fetched here: {done.stderr.strip().splitlines()[-1:]}")
    vmastore = binaries / "vmastore"
    assert run(vmastore, "--version", cwd=tmp_path).stdout.startswith("vmastore ")
    shutil.copy(ROOT / "docs" / "data" / "python-imports.vmatrace.jsonl.gz", tmp_path / "x.vmatrace.jsonl.gz")
    done = run(vmastore, "import", "x.vmatrace.jsonl.gz", "--name", "x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert run(vmastore, "sql", "SELECT 1 AS one", cwd=tmp_path).stdout == "one\n1\n"
    assert run(vmastore, "verify", "x", cwd=tmp_path).returncode == 0
    assert run(binaries / "python", "-c", _MIGRATED, cwd=tmp_path).stdout == f"{SCHEMA}\n"
    missing = "import importlib.util as u; print(u.find_spec('cli'), u.find_spec('migrations'))"
    assert run(binaries / "python", "-c", missing, cwd=tmp_path).stdout == "None None\n"
    if shutil.which("strace"):
        done = run(vmastore, "record", "--name", "true", "--", "/bin/true", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert run(vmastore, "verify", "true", cwd=tmp_path).returncode == 0
