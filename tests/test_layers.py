"""Imports go one way, and merging and splitting are private."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = [
    *("mm", "syscalls", "events", "store", "replay", "importers", "recorder", "intake", "conform", "reports", "cli")
]
# what the syscall layer may call of the merge/split package: the six, and the entries beside them
PUBLIC = {
    "vma_modify_flags",
    "vma_modify_flags_name",
    "vma_modify_policy",
    "vma_modify_uffd",
    "vma_merge_new_vma",
    "vma_merge_extend",
    "mmap_region",
    "do_vmi_munmap",
    "do_brk_flags",
    "copy_vma",
    "isolate_vma",
    "expand_stack",
    "why_not_one",
    "Oops",
}
PRIVATE = {
    "vma_modify",
    "split_off",
    "vma_merge_new_range",
    "closes_hole",
    "split_vma",
    "split_vma_around",
    "split_vma_unchecked",
    "neighbour_reason",
    "anon_reason",
    "anon_sides_reason",
    "attrs_reason",
    "offset_reason",
    "_dup_anon_vma",
}


def files(folder: str) -> list[Path]:
    """The Python files of a layer."""
    base = ROOT / "cli" if folder == "cli" else ROOT / "vmastore" / folder
    return sorted(base.rglob("*.py")) if base.exists() else []


def imports(path: Path) -> list[tuple[str, list[str]]]:
    """(module, names) of every import of the project's own, wherever in the file it stands."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("vmastore"):
            found.append((node.module, [alias.name for alias in node.names]))
        elif isinstance(node, ast.Import):
            found += [(alias.name, []) for alias in node.names if alias.name.startswith("vmastore")]
    return found


def names_used(path: Path) -> set[str]:
    """Every name, attribute and imported name in a file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names}
    return found


def test_the_private_functions_exist() -> None:
    """The list of private names is of functions that the merge package really has."""
    defined = {
        node.name
        for path in files("mm/merge")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert defined >= PRIVATE, PRIVATE - defined


@pytest.mark.parametrize("layer", ORDER)
def test_imports_go_one_way(layer: str) -> None:
    """A module imports from its own layer or from one to the left of it."""
    allowed = set(ORDER[: ORDER.index(layer) + 1]) | {"bulk", "errors", "version"}
    for path in files(layer):
        for module, _ in imports(path):
            part = module.split(".")[1] if "." in module else None
            assert part is None or part in allowed, f"{path.relative_to(ROOT)} imports {module}"


def test_the_domain_needs_only_sortedcontainers() -> None:
    """mm and syscalls import the standard library, sortedcontainers and each other, nothing else."""
    import sys

    for path in files("mm") + files("syscalls"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for name in names:
                top = name.split(".")[0]
                assert top in sys.stdlib_module_names or top in {"vmastore", "sortedcontainers"}, f"{path}: {name}"


def test_merge_and_split_are_private() -> None:
    """Outside vmastore/mm/merge nobody names a private function of it or imports one of its modules."""
    for layer in ORDER:
        for path in files(layer):
            if "mm/merge" in str(path):
                continue
            for module, names in imports(path):
                assert not module.startswith("vmastore.mm.merge."), f"{path}: imports {module}"
                if module == "vmastore.mm.merge":
                    assert set(names) <= PUBLIC, f"{path}: imports {set(names) - PUBLIC}"
            used = names_used(path)
            assert not used & PRIVATE, f"{path}: names {used & PRIVATE}"


def test_only_the_merge_package_makes_and_moves_vmas() -> None:
    """System calls never insert, remove or resize a VMA themselves, except where an mm is copied whole."""
    for path in files("syscalls"):
        if path.name == "process.py":  # dup_mmap copies a whole mm, with no merging
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                assert node.attr not in {"insert_after", "set_start", "set_end"}, f"{path}:{node.lineno} {node.attr}"


def test_only_the_store_knows_sql() -> None:
    """sqlalchemy and sqlite3 are imported by the store and the migrations alone."""
    for layer in ORDER:
        if layer == "store":
            continue
        for path in files(layer):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module:
                    names = [node.module]
                for name in names:
                    assert name.split(".")[0] not in {"sqlalchemy", "sqlite3", "alembic"}, f"{path}: {name}"
