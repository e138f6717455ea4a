"""Folding events: address spaces, points in time, verification, bisection."""
