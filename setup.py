"""The build switch: VMASTORE_MYPYC=1 compiles the layers that decide with mypyc, from the same source.

Without it (the default) the wheel is pure Python. An isolated build gets mypy by itself; a C compiler and
Python's headers must be there.
"""

import os
import sys
from glob import glob

from setuptools import setup

# the domain, the system calls, what applies events to them, and what follows that to derive data
_COMPILED = (
    "vmastore/mm/*.py",
    "vmastore/mm/merge/*.py",
    "vmastore/syscalls/*.py",
    "vmastore/replay/world.py",
    "vmastore/replay/calls.py",
    "vmastore/replay/inferred.py",
    "vmastore/replay/limits.py",
    "vmastore/replay/columns.py",
    "vmastore/replay/derive.py",
    "vmastore/replay/kinds.py",
    "vmastore/replay/lifetimes.py",
    "vmastore/replay/maps.py",
    "vmastore/replay/rolling.py",
    "vmastore/replay/state.py",
    "vmastore/store/nodes.py",
)
# mypyc cannot compile a subclass of AssertionError
_LEFT_OUT = {"vmastore/mm/validate.py"}
_DESCRIPTION = {"egg_info", "dist_info"} & set(sys.argv)  # all that is asked for: mypy may not be there yet
_ASKED = os.environ.get("VMASTORE_MYPYC") == "1"


def extensions() -> list:
    """The modules to compile; none without the switch, or while only the project's description is asked for."""
    if not _ASKED or _DESCRIPTION:
        return []
    from mypyc.build import mypycify

    paths = sorted({path for pattern in _COMPILED for path in glob(pattern)} - _LEFT_OUT)
    return mypycify([path for path in paths if not path.endswith("__init__.py")], opt_level="3")


setup(ext_modules=extensions(), setup_requires=["mypy>=1.11"] if _ASKED and _DESCRIPTION else [])
