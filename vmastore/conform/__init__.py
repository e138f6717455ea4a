"""Does the running kernel do what a rule set says? Calls in a child, compared step by step."""

from vmastore.conform.compare import Conformance, conform

__all__ = ["Conformance", "conform"]
