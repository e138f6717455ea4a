"""The pure domain: VMAs, flags, address spaces, merge and split, rule sets."""
