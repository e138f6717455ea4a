"""Planted differences: the altered operation, or the first effect of a switched rule, is what bisection names."""

from __future__ import annotations

import pytest
from planting import KINDS, check


@pytest.mark.parametrize("seed", range(12), ids=lambda seed: f"{KINDS[seed % len(KINDS)]}-{seed}")
def test_planted_differences(seed: int) -> None:
    """Exactly the planted event is named, and an independent replay proves that nothing before it differs."""
    result = check(seed, 200, 1_500)
    assert result.wrong == [], result
