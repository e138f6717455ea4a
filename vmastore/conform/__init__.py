"""Does the running kernel do what a rule set says? Calls in a child, compared step by step.

Imported when first used: the child needs no more than the calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vmastore.conform.compare import Conformance, conform

__all__ = ["Conformance", "conform"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vmastore.conform import compare

    return getattr(compare, name)
