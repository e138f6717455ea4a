"""Readers of strace logs, JSON lines and the recordings of real kernels."""
