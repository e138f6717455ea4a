"""`make demo`: record a real program, replay it, check it against the kernel, bisect it.

Where strace is missing, a recording that comes with the project takes its place.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAM = ["python3", "-c", "import json, ssl, sqlite3"]
BUNDLED = Path(__file__).parent / "data" / "python-imports.vmatrace.jsonl.gz"
NAME = "imports"


def vmastore(*words: str, show: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command as a user would, saying which."""
    if show:
        print(f"\n$ vmastore {' '.join(words)}", flush=True)
    command = [str(Path(sys.executable).with_name("vmastore")), *words]
    return subprocess.run(command, text=True, capture_output=not show, check=False)


def bring_in() -> str:
    """The trace, recorded here or bundled. Returns which."""
    if shutil.which("strace"):
        print(f"Recording {' '.join(PROGRAM)}", flush=True)
        if vmastore("record", "--name", NAME, "--", *PROGRAM).returncode == 0:
            return "recorded here"
        print("That did not work; the bundled recording takes its place.")
    else:
        print("strace is not installed (apt-get install strace): the bundled recording takes its place.")
    vmastore("import", str(BUNDLED), "--name", NAME)
    return "bundled"


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VMASTORE_STORE"] = str(Path(folder) / "demo.db")
        source = bring_in()
        vmastore("replay", NAME, "--summary")
        vmastore("verify", NAME)
        vmastore("bisect", "find", NAME, "--kernel", "6.7", "--against", "6.18")
        vmastore("sql", "SELECT cases, count(*) AS events FROM outcomes WHERE cases <> '' GROUP BY cases")
        return conclude(source)


def conclude(source: str) -> int:
    """What was found, in a few lines; the exit status."""
    report = json.loads(vmastore("verify", NAME, "--json", show=False).stdout)
    sums = json.loads(vmastore("replay", NAME, "--summary", "--json", show=False).stdout)
    parted = json.loads(
        vmastore("bisect", "find", NAME, "--kernel", "6.7", "--against", "6.18", "--json", show=False).stdout
    )
    print(f"\nThe trace ({source}): {report['events']} events under {sums['kernel']}.")
    print(
        f"At exit: {report['mismatches']} differences from the kernel's own maps in {report['compared']} comparisons."
    )
    print(f"Assumed outcomes (they hang on faults that were not recorded): {report['assumed']}.")
    merges = ", ".join(f"case {case} {count}x" for case, count in sorted(sums["merges"].items())) or "none"
    print(f"Merges: {merges}; splits: {sums['splits']}.")
    print(f"Most VMAs at once: {sums['peak']}, after event {sums['peak_seq']}.")
    if parted["found"] is None:
        print("6.7 and 6.18 decide every event of it alike.")
    else:
        print(f"6.7 and 6.18 first part at event {parted['found']}.")
    return 1 if report["mismatches"] else 0


if __name__ == "__main__":
    sys.exit(main())
